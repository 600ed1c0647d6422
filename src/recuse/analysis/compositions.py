"""Compositions of models that were judged apart: from records to accounts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from recuse.analysis.chains import Chain, count_chain
from recuse.analysis.deployed import smoothed
from recuse.analysis.metrics import rate
from recuse.analysis.networks import gather
from recuse.analysis.verdicts import Kind, Verdicts, add_radii, by_model, verdicts
from recuse.errors import RecordError
from recuse.records.schema import Record, RecordMeta


@dataclass(frozen=True)
class Alone:
    """Rates of one member by itself, each in [0, 1].

    Attributes:
        name: The model.
        natural: Its natural accuracy.
        robust: Its robust accuracy, by the verdicts that the composition is counted with; None
            where certificates count and it has none.
        failure: By certificates: probability, per image, that it does otherwise than counted.
    """

    name: str
    natural: float
    robust: float | None
    failure: float = 0.0


@dataclass(frozen=True)
class ChainRates:
    """Rates of one composition at one radius, each in [0, 1].

    Attributes:
        name: ``stage → … → core``.
        eps: The attacker's radius.
        natural: Accuracy of the deployed composition on unperturbed images.
        sound: Lower bound on its robust accuracy: proven where ``kind`` is ``"certified"``, else
            as strong as the attacks behind the records and on the composition: what any of them
            broke is not counted. None where the records do not support it.
        paper: Robust accuracy by the paper's way of counting.
        paper_natural: Natural accuracy by the paper's way of counting.
        core_share: Share of the images that every stage leaves to the core.
        alone: The members by themselves, the core last.
        kind: What the verdicts rest on: ``"robust"`` (attacks found nothing) or ``"certified"``.
        attacked: Share of the attacked images on which no adversary of the whole composition found
            a wrong answer; None where none was tried.
        images: How many images were attacked so.
        refuted: Of those, how many the records alone would have counted in ``sound``.
        failure: By certificates: probability, per image, that a stage that draws votes does
            otherwise than it is counted (alpha + beta of every stage).
        lacking: Why there is no sound number.
    """

    name: str
    eps: str
    natural: float
    sound: float | None
    paper: float
    paper_natural: float
    core_share: float
    alone: tuple[Alone, ...]
    kind: Kind = "robust"
    attacked: float | None = None
    images: int = 0
    refuted: int = 0
    failure: float = 0.0
    lacking: str = ""

    @classmethod
    def of(cls, chain: Chain) -> "ChainRates":
        """The rates of a composition that was counted."""
        met = chain.attacked
        return cls(
            name=chain.name,
            eps=chain.eps,
            natural=rate(chain.sound.natural),
            sound=None if chain.lacking else rate(chain.sound.robust),
            paper=rate(chain.paper.robust),
            paper_natural=rate(chain.paper.natural),
            core_share=rate(chain.left),
            alone=tuple(_alone(chain, place) for place in range(len(chain.members))),
            kind=chain.kind,
            attacked=None if met is None else rate(met.left[met.met]),
            images=0 if met is None else int(met.met.sum()),
            refuted=int(chain.refuted.sum()),
            failure=chain.promised.failure,
            lacking=chain.lacking,
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON values; without what an attack would say where there was none."""
        plain = asdict(self) | {"alone": [asdict(member) for member in self.alone]}
        if self.attacked is None:
            del plain["attacked"], plain["images"], plain["refuted"]
        if self.kind == "robust":
            del plain["failure"], plain["lacking"]
        return plain


def compose_records(
    records: Sequence[Record],
    *,
    eps: str,
    core: str | None = None,
    stages: Sequence[str] = (),
    kind: Kind | None = None,
    attacks: Sequence[Record] = (),
) -> list[Chain]:
    """Account for one cascade, or for every robust model alone in front of the core.

    What any attack on a network broke is broken; of several records of certificates, the one
    that proves most counts. Two networks of one name are told apart by their weights, with which
    their names are then written.

    Args:
        records: Models judged on the same samples at eps and 2 eps.
        eps: The attacker's radius, which is the selectors' radius too.
        core: Name of the core; by default the record whose ``role`` tag is ``core``.
        stages: Names in order; by default one composition per record that is not the core.
        kind: Verdicts to count with; by default attacks, and certificates where no stage was
            attacked within eps. A core without certificates then counts as never robust.
        attacks: Records of attacks on whole compositions; they count with attacks only.

    Returns:
        One entry per composition.

    Raises:
        RecordError: A name that does not occur, no core, no network but the core, models judged
            on different samples, or without the doubled radius.
    """
    found = [verdicts(record) for record in records]
    apart, judged = by_model(gather(found)), by_model(gather(found, attacks))
    core_name = core or _core_name(judged)
    chosen = kind or _kind([v for name in judged if name != core_name for v in judged[name]], eps)
    best = {n: _most_telling(judged[n], eps, chosen, core=n == core_name) for n in judged}
    models, before = (
        {name: _named(name, found[name][best[name]]) for name in found} for found in (judged, apart)
    )
    if missing := [name for name in (core_name, *stages) if name not in models]:
        raise RecordError(f"no record of model {missing[0]!r}; there are: {', '.join(models)}")
    others = [name for name in models if name != core_name]
    single = [n for n in others if not same_network(models[n].meta, models[core_name].meta)]
    if not (single or stages):
        raise RecordError(nothing_to_compose(others, core_name))
    if chosen == "certified":
        single = [name for name in single if models[name].proves(eps)] or single
    chains = [tuple(stages)] if stages else [(name,) for name in single]

    def count(names: Sequence[str], known: Mapping[str, Verdicts]) -> Chain:
        return count_chain([known[name] for name in (*names, core_name)], eps, chosen, attacks)

    return [replace(count(names, models), refuted=count(names, before).refuted) for names in chains]


def same_network(first: RecordMeta, second: RecordMeta) -> bool:
    """Whether two records are known to be of one network, whatever they call it."""
    return bool(first.weights) and first.weights == second.weights


def nothing_to_compose(others: Sequence[str], core: str) -> str:
    """Why there is no composition where no network but the core was judged."""
    alike = f": {', '.join(others)} has the core's weights" if others else ""
    return (
        f"a composition needs a network beside the core {core!r}, and there is none{alike}; "
        "add the run folder of a robust model"
    )


def _alone(chain: Chain, place: int) -> Alone:
    model, account = chain.members[place], chain.alone[place]
    robust = rate(account.robust) if chain.proven_alone(place) else None
    failure = chain.promises_alone[place].failure if chain.promises_alone else 0.0
    return Alone(model.meta.model, rate(account.natural), robust, failure)


def _kind(others: Sequence[Verdicts], eps: str) -> Kind:
    if any(model.has("robust", eps) for model in others):
        return "robust"
    proven = any(model.proves(eps) for model in others)
    attacked = any(model.judged("robust") for model in others)
    listed = any(model.judged("certified") for model in others)
    return "certified" if proven or (listed and not attacked) else "robust"


def _most_telling(found: Sequence[Verdicts], eps: str, kind: Kind, *, core: bool) -> int:
    """Which record of a network says most; a core answers with the network itself."""
    fit = [i for i, v in enumerate(found) if not (core and smoothed(v.meta))]
    return max(fit or range(len(found)), key=lambda i: telling(found[i], eps, kind))


def _named(name: str, model: Verdicts) -> Verdicts:
    """A network under its name among the models compared."""
    return replace(model, meta=replace(model.meta, model=name))


def telling(model: Verdicts, eps: str, kind: Kind) -> tuple[bool, bool, int, float]:
    """Orders records of one network: judged at eps, at 2 eps, samples, and how much they say.

    An attack says more the more it broke, a certificate the more it proves.
    """
    double = add_radii(eps, eps)
    if kind == "robust":
        judged, doubled = model.has(kind, eps), model.has(kind, double)
        most = rate(model.broken(eps)) if judged else -1.0
    else:
        judged, doubled = model.proves(eps), model.proves(double)
        most = rate(model.certified(double if doubled else eps)) if judged else 0.0
    return judged, doubled, model.samples, most


def _core_name(judged: Mapping[str, Sequence[Verdicts]]) -> str:
    names = [
        name
        for name, found in judged.items()
        if any(v.meta.tags.get("role") == "core" for v in found)
    ]
    # One network under several names is one core.
    networks = {judged[name][0].meta.weights or name for name in names}
    if len(networks) != 1:
        raise RecordError(
            f"{len(networks)} models have the role core; name the core model (--core NAME)"
        )
    return names[0]
