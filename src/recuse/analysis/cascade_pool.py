"""What a cascade may be built from: networks behind their selectors, comparable, and one core."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recuse.analysis.accounting import CoreVerdicts, StageVerdicts
from recuse.analysis.adversaries import mixture_broken
from recuse.analysis.comparable import by_model, check_comparable
from recuse.analysis.compositions import core_of
from recuse.analysis.cores import the_core
from recuse.analysis.evidence import same_weights, strongest_record
from recuse.analysis.mechanism_pool import (
    ANY_RADIUS,
    INDICATOR,
    MECHANISMS,
    ONE_HOT,
    check_mechanisms,
    mechanism_of,
    stages_of,
)
from recuse.analysis.mechanisms import silent_stage
from recuse.analysis.mixture_pool import mixtures_of
from recuse.analysis.networks import gather
from recuse.analysis.verdicts import Verdicts, add_radii, verdicts
from recuse.errors import ConfigError, RecordError
from recuse.radius import format_radius, parse_radius
from recuse.records.schema import Record, RecordMeta

THRESHOLDS = 40


@dataclass(frozen=True)
class Pool:
    """Stages and core judged on the same samples by the same attacks.

    Attributes:
        dataset: Data set and split.
        norm: Norm of the threat.
        eps: The attacker's radius, and the radius of every stage's robustness indicator.
        names: One a stage: the network's where it stands behind its indicator. A network that has
            mixtures and no stage is one that never answers, so that it can stand alone.
        networks: Of each stage.
        stages: Verdicts, aligned with ``names``.
        core_name: The model that always answers.
        core: Its verdicts.
        left_out: Models of this data that cannot be a stage, and why.
        mixtures: Systems of a network and the core that always answer, by name.
        count: What "robust" of a system means here: by the sound accounting, or what adversaries
            of the whole left.
    """

    dataset: str
    norm: str
    eps: str
    names: tuple[str, ...]
    networks: tuple[str, ...]
    stages: tuple[StageVerdicts, ...]
    core_name: str
    core: CoreVerdicts
    left_out: tuple[tuple[str, str], ...]
    mixtures: tuple[tuple[str, CoreVerdicts], ...] = ()
    count: str = "sound"

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """Those of which there is a system, where systems are counted soundly."""
        if self.count != "sound":
            return ()
        stages = (mechanism_of(*pair) for pair in zip(self.names, self.networks, strict=True))
        mixtures = (mechanism_of(title) for title, _ in self.mixtures)
        return tuple(kind for kind in dict.fromkeys((*stages, *mixtures)) if kind in MECHANISMS)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.core.accurate.size)


def build_pool(
    records: Sequence[Record],
    *,
    dataset: str,
    eps: str,
    core: str | None = None,
    attacks: Sequence[Record] = (),
    mechanisms: Sequence[str] = (INDICATOR,),
    thresholds: int = THRESHOLDS,
) -> Pool:
    """Every model of a data set that was judged at eps and what its selectors need, and a core.

    The core is ``core``, or the one that :func:`recuse.analysis.cores.cores` finds. A pool
    compares like with like: a stage met every attack that the core met. What any attack on a
    network broke is broken, whatever the attack was after.

    Args:
        records: Of any data sets and attacks.
        dataset: ``"cifar10"`` or ``"cifar10/test"``.
        eps: The attacker's radius.
        core: Name of the core.
        attacks: Of attacks on compositions of these models.
        mechanisms: Selectors and mixtures to make of each model.
        thresholds: Of softmax response, and weights of each mixture.

    Raises:
        ConfigError: An unknown mechanism, or no threshold to choose from.
        RecordError: No record of the data set or radius, no core or several, no stage, mixed
            norms, models judged on different samples, or not searched for the worst probabilities
            that a mechanism needs.
    """
    mechanisms = check_mechanisms(mechanisms)
    return pool_of(
        networks_of(records, dataset, attacks),
        eps=eps,
        core=core,
        attacks=attacks,
        mechanisms=mechanisms,
        thresholds=thresholds,
    )


def networks_of(
    records: Sequence[Record], dataset: str, attacks: Sequence[Record]
) -> list[Verdicts]:
    """Everything that is known of every network of a data set.

    Raises:
        RecordError: No record of it.
    """
    here = [r for r in records if dataset in (r.meta.dataset, r.meta.dataset.partition("/")[0])]
    if not here:
        known = ", ".join(sorted({r.meta.dataset for r in records})) or "none"
        raise RecordError(f"no record of data set {dataset!r}; there are: {known}")
    return with_scores(gather([verdicts(r) for r in here], attacks))


def with_scores(networks: Sequence[Verdicts]) -> list[Verdicts]:
    """Classifiers with what records of their selection networks say; these are left out alone."""
    alone = (v for v in networks if v.radii("least_score") and not v.radii())
    scored = {(v.meta.model, v.meta.weights): v for v in alone}
    found = []
    for network in networks:
        score = scored.get((network.meta.model, network.meta.weights))
        if score is network:
            continue
        if score is not None and score.ids.equals(network.ids) and network.radii():
            more = [c for c in score.frame.columns if c not in network.frame.columns]
            network = replace(network, frame=network.frame.with_columns(score.frame[more]))
        found.append(network)
    return found


def pool_of(
    networks: Sequence[Verdicts],
    *,
    eps: str,
    core: str | None = None,
    attacks: Sequence[Record] = (),
    mechanisms: Sequence[str] = (INDICATOR,),
    thresholds: int = THRESHOLDS,
) -> Pool:
    """:func:`build_pool` of networks whose attacks were gathered, all of one data set.

    Raises:
        RecordError: As there.
    """
    dataset = networks[0].meta.dataset
    attacked = [v for v in networks if v.radii() and not _on_confidence(v.meta)]
    judged = [v for v in attacked if v.has("robust", eps)]
    if not judged:
        radii = sorted({r for v in attacked for r in v.radii()}, key=parse_radius)
        raise RecordError(
            f"no model of {dataset} was judged at {eps}; judged: {', '.join(radii) or 'none'}"
        )
    models = by_model(judged)
    core_name = the_core(models, core)
    radius = format_radius(parse_radius(eps))
    return _pool(models, core_name, radius, attacks, mechanisms, thresholds)


def _on_confidence(meta: RecordMeta) -> bool:
    """Whether an attack was after the confidence, and found other answers by the way only."""
    return meta.method.endswith("-conf")


def _pool(
    models: dict[str, list[Verdicts]],
    core_name: str,
    eps: str,
    attacks: Sequence[Record],
    mechanisms: Sequence[str],
    thresholds: int,
) -> Pool:
    if thresholds < 1:
        raise ConfigError(f"{thresholds} thresholds leave nothing to choose; give 1 or more")
    twice = add_radii(eps, eps)
    core = _strongest(models[core_name], eps, mechanisms)
    wanted = _met(core)
    found: list[tuple[str, str, StageVerdicts]] = []
    mixtures, left_out = [], []
    for name, records in models.items():
        stage = _strongest(records, eps, mechanisms)
        if name == core_name or same_weights(core, stage):
            continue
        if why := _unfit(stage, wanted, twice if INDICATOR in mechanisms else eps):
            left_out.append((name, why))
        else:
            check_comparable([core, stage])
            selected = stages_of(name, stage, eps, mechanisms, thresholds)
            mixed = mixtures_of(f"{name}, {core_name}", stage, core, eps, mechanisms, thresholds)
            if mixed and not selected:
                alone = silent_stage(stage.accurate(), stage.robust(eps))
                selected = [(f"{name} alone", alone)]
            found += [(title, name, counted) for title, counted in selected]
            mixtures += [_standing(*mixture, attacks, stage, core, eps) for mixture in mixed]
    if not found:
        reasons = "; ".join(f"{name} {reason}" for name, reason in left_out[:3])
        raise RecordError(f"no model can be a stage at {eps}" + f": {reasons}" * bool(reasons))
    return Pool(
        core.meta.dataset,
        core.meta.norm,
        eps,
        tuple(title for title, _, _ in found),
        tuple(name for _, name, _ in found),
        tuple(stage for _, _, stage in found),
        core_name,
        core_of(core, eps),
        tuple(left_out),
        tuple(mixtures),
    )


def _strongest(records: Sequence[Verdicts], eps: str, mechanisms: Sequence[str]) -> Verdicts:
    """The record that says most, of those with worst probabilities where they are asked for."""
    if set(mechanisms) - {INDICATOR, ANY_RADIUS}:
        records = [record for record in records if record.has("worst_margin", eps)] or records
    return strongest_record(records, eps, "robust")


def _standing(
    title: str,
    mixed: CoreVerdicts,
    attacks: Sequence[Record],
    stage: Verdicts,
    core: Verdicts,
    eps: str,
) -> tuple[str, CoreVerdicts]:
    """A mixture without what attacks on it broke."""
    alpha, one_hot = float(title.rpartition("; ")[2].rstrip(")")), mechanism_of(title) == ONE_HOT
    broken = mixture_broken(attacks, stage, core, eps, alpha=alpha, one_hot=one_hot)
    return title, CoreVerdicts(mixed.accurate, mixed.robust & ~broken)


def _unfit(stage: Verdicts, wanted: dict[str, str], radius: str) -> str:
    """Why a network cannot be a stage; empty where it can."""
    if not wanted.keys() <= _met(stage).keys():
        return f"not judged by {_wanting(stage, wanted)}"
    return "" if stage.has("robust", radius) else f"not judged at {radius}"


def _met(model: Verdicts) -> dict[str, str]:
    """Attacks on the answer that met a network: what tells them apart, and their names."""
    return {meta.search: meta.method for meta in model.met if not _on_confidence(meta)}


def _wanting(model: Verdicts, wanted: dict[str, str]) -> str:
    names = " and ".join(sorted(set(wanted.values())))
    named = set(wanted.values()) <= set(_met(model).values())
    return names + (" with the settings that the core was judged with" if named else "")
