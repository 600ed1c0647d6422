"""Compositions of the robust models of a report with its cores, counted soundly and otherwise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from recuse.analysis.accounting import Account
from recuse.analysis.advice import Advice, advise
from recuse.analysis.chains import Chain, count_chain
from recuse.analysis.compositions import nothing_to_compose, same_network, telling
from recuse.analysis.deployed import smoothed
from recuse.analysis.intervals import Interval, paired_difference, wilson_of
from recuse.analysis.measured import CERTIFIED, ROBUST, Judged
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Kind, Mask, add_radii, check_comparable
from recuse.errors import RecordError
from recuse.radius import parse_radius
from recuse.records.schema import Record


@dataclass(frozen=True, eq=False)
class Composed:
    """A robust model that answers where it is robust, and a core that answers the rest.

    Attributes:
        stage: The robust model.
        core: The model that always answers.
        chain: Both, counted.
        known: Robust accuracy against an attack on the composition, where the rows behind it are
            not at hand.
    """

    stage: Judged
    core: Judged
    chain: Chain
    known: float | None = None

    @property
    def eps(self) -> str:
        """The attacker's radius, canonical text."""
        return self.chain.eps

    @property
    def kind(self) -> Kind:
        """Whether attacks or certificates were counted."""
        return self.chain.kind

    @property
    def name(self) -> str:
        """``stage → core``."""
        return self.chain.name

    @property
    def sound(self) -> Account:
        """Outcome per sample as deployed, a lower bound as strong as the verdicts."""
        return self.chain.sound

    @property
    def paper(self) -> Account:
        """Outcome per sample by the paper's way of counting."""
        return self.chain.paper

    @property
    def stage_alone(self) -> Account:
        """The robust model by itself."""
        return self.chain.alone[0]

    @property
    def core_alone(self) -> Account:
        """The core by itself."""
        return self.chain.alone[-1]

    @property
    def selects(self) -> Mask:
        """Samples that the robust model answers."""
        return ~self.chain.left

    @property
    def attacked(self) -> float | None:
        """Robust accuracy against an attack on the composition itself, if there is one."""
        met = self.chain.attacked
        return self.known if met is None else rate(met.left[met.met])

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.selects.size)

    @property
    def supported(self) -> bool:
        """Whether the records support the sound count."""
        return not self.chain.lacking

    @property
    def natural(self) -> Interval:
        """Natural accuracy of the deployed composition."""
        return wilson_of(self.sound.natural)

    @property
    def robust(self) -> Interval:
        """Sound robust accuracy."""
        return wilson_of(self.sound.robust)

    @property
    def gain(self) -> Interval:
        """Sound robust accuracy above the core's."""
        return paired_difference(self.sound.robust, self.core_alone.robust)

    @property
    def cost(self) -> Interval:
        """Natural accuracy above the core's; negative where the composition costs some."""
        return paired_difference(self.sound.natural, self.core_alone.natural)


def compose_all(
    models: Sequence[Judged],
    wanted: frozenset[str] = frozenset(),
    attacked: Mapping[tuple[str, str, str], float] | None = None,
    *,
    attacks: Sequence[Record] = (),
    kind: Kind = ROBUST,
) -> list[Composed]:
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
    known = attacked or {}
    models = [m for m in models if not (m.role == "core" and smoothed(m.meta))]
    composed = [
        count(stage, core, eps, kind, attacks, known)
        for stage in models
        if stage.role == "robust" and stage.verdicts.labelled
        for core in _cores(stage, models)
        for eps in common_radii(stage, core, wanted, kind)
        if _telling_most(stage, models, eps, kind) and _telling_most(core, models, eps, kind)
    ]
    return sorted(composed, key=_question)


def count(
    stage: Judged,
    core: Judged,
    eps: str,
    kind: Kind = ROBUST,
    attacks: Sequence[Record] = (),
    known: Mapping[tuple[str, str, str], float] | None = None,
) -> Composed:
    """Count one composition at one radius.

    Raises:
        RecordError: A verdict that is needed was not recorded.
    """
    chain = count_chain([stage.verdicts, core.verdicts], eps, kind, attacks)
    rates = (known or {}) if kind == ROBUST else {}
    return Composed(stage, core, chain, rates.get((stage.run, chain.name, eps)))


def common_radii(
    stage: Judged, core: Judged, wanted: frozenset[str], kind: Kind = ROBUST
) -> list[str]:
    """Radii at which both were judged, and the stage at the double too.

    By certificates the core need not be judged: without a proof it is not robust.
    """
    own = stage.verdicts.judged(kind)
    fit = [
        r
        for r in own
        if parse_radius(r) > 0
        and (kind == CERTIFIED or core.verdicts.has(ROBUST, r))
        and add_radii(r, r) in own
    ]
    return [r for r in fit if r in wanted] or fit


def advise_each(compositions: Sequence[Composed]) -> list[Advice]:
    """What to take at each radius of each data set and norm, on each set of samples."""
    groups: dict[tuple[object, ...], list[Chain]] = {}
    for c in compositions:
        if not c.supported:
            continue
        key = (*_question(c), c.kind, tuple(c.stage.verdicts.ids))
        groups.setdefault(key, []).append(c.chain)
    return [advise(chains) for chains in groups.values()]


def uncomposed(models: Sequence[Judged]) -> str:
    """Why a core stands without compositions: what came with it is itself; else empty."""
    pairs = [
        (stage.meta.model, core.meta.model)
        for stage in models
        for core in models
        if (stage.role, core.role) == ("robust", "core") and same_network(stage.meta, core.meta)
    ]
    others = list(dict.fromkeys(stage for stage, _ in pairs))
    return nothing_to_compose(others, pairs[0][1]) if pairs else ""


def _question(c: Composed) -> tuple[str, str, float]:
    return c.stage.meta.dataset, c.stage.meta.norm, parse_radius(c.eps)


def _cores(stage: Judged, models: Sequence[Judged]) -> Iterator[Judged]:
    cores = [
        m
        for m in models
        if m.role == "core" and _same_question(stage, m) and not same_network(stage.meta, m.meta)
    ]
    own = [m for m in cores if m.run == stage.run]
    for core in own or cores:
        if _comparable(stage, core):
            yield core


def _telling_most(model: Judged, models: Sequence[Judged], eps: str, kind: Kind) -> bool:
    """Whether no other record of the same model says more at eps, the first of equal ones."""
    rivals = _records_of(model, models)
    return max(rivals, key=lambda m: telling(m.verdicts, eps, kind)) is model


def _records_of(model: Judged, models: Sequence[Judged]) -> list[Judged]:
    return [m for m in models if network_of(m) == network_of(model)]


def network_of(model: Judged) -> tuple[str, ...]:
    """What the records of one network in one run have in common."""
    meta = model.meta
    return model.run, meta.model, meta.weights, meta.norm, meta.dataset


def _same_question(first: Judged, second: Judged) -> bool:
    one, other = first.meta, second.meta
    return (one.dataset, one.norm) == (other.dataset, other.norm) and second.verdicts.labelled


def _comparable(stage: Judged, core: Judged) -> bool:
    """Models of one run must fit together; those of two runs are composed only if they do."""
    try:
        check_comparable([stage.verdicts, core.verdicts])
    except RecordError:
        if stage.run == core.run:
            raise
        return False
    return True
