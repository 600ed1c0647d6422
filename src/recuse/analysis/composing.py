"""Which compositions there are among the models of a command or of a report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from recuse.analysis.advice import Advice, advise
from recuse.analysis.comparable import by_model, check_comparable
from recuse.analysis.compositions import Composition, count_composition
from recuse.analysis.cores import cores, the_core
from recuse.analysis.deployed import smoothed
from recuse.analysis.evidence import network_of, same_weights, strongest_record
from recuse.analysis.networks import gather
from recuse.analysis.verdicts import Kind, Verdicts, add_radii, verdicts
from recuse.errors import RecordError
from recuse.radius import parse_radius
from recuse.records.schema import Record


def compose_records(
    records: Sequence[Record],
    *,
    eps: str,
    core: str | None = None,
    stages: Sequence[str] = (),
    kind: Kind | None = None,
    attacks: Sequence[Record] = (),
) -> list[Composition]:
    """Account for one cascade, or for every robust model alone in front of the core.

    What any attack on a network broke is broken; of several records of certificates, the one
    that proves most counts. Two networks of one name are told apart by their weights, with which
    their names are then written.

    Args:
        records: Models judged on the same samples at eps and 2 eps.
        eps: The attacker's radius, which is the selectors' radius too.
        core: Name of the core; by default the one that :func:`recuse.analysis.cores.cores` finds.
        stages: Names in order; by default one composition per record that is not the core.
        kind: Verdicts to count with; by default attacks, and certificates where no stage was
            attacked within eps. A core without certificates then counts as never robust.
        attacks: Records of attacks on whole compositions; they count with attacks only.

    Returns:
        One entry per composition.

    Raises:
        RecordError: A name that does not occur, no core or several, no network but the core,
            models judged on different samples, or without the doubled radius.
    """
    found = [verdicts(record) for record in records]
    apart, judged = by_model(gather(found)), by_model(gather(found, attacks))
    core_name = the_core(judged, core)
    chosen = kind or _kind([v for name in judged if name != core_name for v in judged[name]], eps)
    best = {n: _most_telling(judged[n], eps, chosen, core=n == core_name) for n in judged}
    models, before = (
        {name: _named(name, found[name][best[name]]) for name in found} for found in (judged, apart)
    )
    if missing := [name for name in stages if name not in models]:
        raise RecordError(f"no record of model {missing[0]!r}; there are: {', '.join(models)}")
    others = [name for name in models if name != core_name]
    single = [n for n in others if not same_weights(models[n], models[core_name])]
    if itself := [name for name in stages if name not in single]:
        raise RecordError(f"{itself[0]!r} is the core {core_name!r} itself; name another stage")
    if not single:
        raise RecordError(_nothing_to_compose(others, core_name))
    if chosen == "certified":
        single = [name for name in single if models[name].proves(eps)] or single
    chains = [tuple(stages)] if stages else [(name,) for name in single]

    def count(names: Sequence[str], known: Mapping[str, Verdicts]) -> Composition:
        return count_composition(
            [known[name] for name in (*names, core_name)], eps, chosen, attacks
        )

    return [replace(count(names, models), refuted=count(names, before).refuted) for names in chains]


def uncomposed(models: Sequence[Verdicts]) -> str:
    """Why a core stands without compositions: what came with it is itself; else empty.

    Args:
        models: All records of a report.
    """
    pairs = [
        (stage.meta.model, core.meta.model)
        for stage in models
        for core in models
        if (stage.role, core.role) == ("robust", "core") and same_weights(stage, core)
    ]
    others = list(dict.fromkeys(stage for stage, _ in pairs))
    return _nothing_to_compose(others, pairs[0][1]) if pairs else ""


def _nothing_to_compose(others: Sequence[str], core: str) -> str:
    """Why there is no composition where no network but the core was judged."""
    alike = f": {', '.join(others)} has the core's weights" if others else ""
    return (
        f"a composition needs a network beside the core {core!r}, and there is none{alike}; "
        "add the run folder of a robust model"
    )


def _kind(others: Sequence[Verdicts], eps: str) -> Kind:
    if any(model.has("robust", eps) for model in others):
        return "robust"
    proven = any(model.proves(eps) for model in others)
    attacked = any(model.radii("robust") for model in others)
    listed = any(model.radii("certified") for model in others)
    return "certified" if proven or (listed and not attacked) else "robust"


def _most_telling(found: Sequence[Verdicts], eps: str, kind: Kind, *, core: bool) -> int:
    """Which record of a network says most; a core answers with the network itself."""
    fit = [v for v in found if not (core and smoothed(v.meta))]
    best = strongest_record(fit or found, eps, kind)
    return next(place for place, v in enumerate(found) if v is best)


def _named(name: str, model: Verdicts) -> Verdicts:
    """A network under its name among the models compared."""
    return replace(model, meta=replace(model.meta, model=name))


def compose_all(
    models: Sequence[Verdicts],
    wanted: frozenset[str] = frozenset(),
    attacked: Mapping[tuple[str, str, str], float] | None = None,
    *,
    attacks: Sequence[Record] = (),
    kind: Kind = "robust",
) -> list[Composition]:
    """Every robust model before every core that was judged on the same samples.

    A robust model meets the cores of its own run, or any other run's if its own has none.
    Of several certificates of a model the most telling count. A record of a smoothed core is
    passed over: the core answers with the network itself.

    Args:
        models: All records of a report, each with the verdicts of every attack on its network.
        wanted: Radii to report; by default all that were judged together with their double.
        attacked: Robust accuracy under attack by (run, name of the composition, eps).
        attacks: Rows of such attacks, which say more: what they broke is not counted as sound.
        kind: Count with attacks or with certificates; a core that has none is never proven robust.

    Raises:
        RecordError: Two models of one run were judged on different samples.
    """
    known = (attacked or {}) if kind == "robust" else {}
    models = [m for m in models if not (m.role == "core" and smoothed(m.meta))]
    composed = []
    for stage in (m for m in models if m.role == "robust" and m.labelled):
        for core in _cores(stage, models):
            for eps in _common_radii(stage, core, wanted, kind):
                if all(_says_most(m, models, eps, kind) for m in (stage, core)):
                    counted = count_composition([stage, core], eps, kind, attacks)
                    rate = known.get((stage.run, counted.name, eps))
                    composed.append(replace(counted, known=rate))
    return sorted(composed, key=_question)


def advise_each(compositions: Sequence[Composition]) -> list[Advice]:
    """What to take at each radius of each data set and norm, on each set of samples."""
    groups: dict[tuple[object, ...], list[Composition]] = {}
    for c in compositions:
        if not c.lacking:
            key = (*_question(c), c.kind, tuple(c.stage.ids))
            groups.setdefault(key, []).append(c)
    return [advise(group) for group in groups.values()]


def _common_radii(stage: Verdicts, core: Verdicts, wanted: frozenset[str], kind: Kind) -> list[str]:
    """Radii at which both were judged, and the stage at the double too.

    By certificates the core need not be judged: without a proof it is not robust.
    """
    own = stage.radii(kind)
    fit = [
        r
        for r in own
        if parse_radius(r) > 0
        and (kind == "certified" or core.has("robust", r))
        and add_radii(r, r) in own
    ]
    return [r for r in fit if r in wanted] or fit


def _question(c: Composition) -> tuple[str, str, float]:
    return c.stage.meta.dataset, c.stage.meta.norm, parse_radius(c.eps)


def _cores(stage: Verdicts, models: Sequence[Verdicts]) -> Iterator[Verdicts]:
    question = stage.meta.dataset, stage.meta.norm
    asked = [
        m
        for m in models
        if (m.meta.dataset, m.meta.norm) == question and m.labelled and not same_weights(stage, m)
    ]
    for core in cores([m for m in asked if m.run == stage.run]) or cores(asked):
        if _comparable(stage, core):
            yield core


def _says_most(model: Verdicts, models: Sequence[Verdicts], eps: str, kind: Kind) -> bool:
    """Whether no other record of the same network says more at eps, the first of equal ones."""
    rivals = [m for m in models if network_of(m) == network_of(model)]
    return strongest_record(rivals, eps, kind) is model


def _comparable(stage: Verdicts, core: Verdicts) -> bool:
    """Models of one run must fit together; those of two runs are composed only if they do."""
    try:
        check_comparable([stage, core])
    except RecordError:
        if stage.run == core.run:
            raise
        return False
    return True


__all__ = ["advise_each", "compose_all", "compose_records", "uncomposed"]
