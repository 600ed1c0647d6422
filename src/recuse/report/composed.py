"""Compositions of the robust models of a report with its cores, counted soundly and otherwise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from recuse.analysis.accounting import Account, paper_account, sound_account
from recuse.analysis.adversaries import attacked as met_by
from recuse.analysis.compositions import core_of, stage_of, telling
from recuse.analysis.intervals import Interval, paired_difference, wilson_of
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Kind, Mask, add_radii, check_comparable, worst_case
from recuse.errors import RecordError
from recuse.radius import parse_radius
from recuse.records.schema import Record
from recuse.report.measured import CERTIFIED, ROBUST, Judged

# Natural accuracy that the recommended composition may give up.
ALLOWED_LOSS = 0.01


@dataclass(frozen=True)
class Composed:
    """A robust model that answers where it is robust, and a core that answers the rest.

    The selector's radius is the attacker's, eps; "sure" selection therefore asks twice eps.

    Attributes:
        stage: The robust model.
        core: The model that always answers.
        eps: The attacker's radius, canonical text.
        sound: Outcome per sample as deployed, a lower bound as strong as the verdicts.
        paper: Outcome per sample by the paper's way of counting.
        selects: Samples that the robust model answers.
        core_accurate: The core alone is right.
        core_robust: The core alone is right, and no attack changes it or it is proven.
        attacked: Robust accuracy against an attack on the composition itself, if there is one.
        kind: Whether attacks or certificates were counted.
    """

    stage: Judged
    core: Judged
    eps: str
    sound: Account
    paper: Account
    selects: Mask
    core_accurate: Mask
    core_robust: Mask
    attacked: float | None = None
    kind: Kind = ROBUST

    @property
    def name(self) -> str:
        """``stage → core``."""
        return f"{self.stage.meta.model} → {self.core.meta.model}"

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.selects.size)

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
        return paired_difference(self.sound.robust, self.core_robust)

    @property
    def cost(self) -> Interval:
        """Natural accuracy above the core's; negative where the composition costs some."""
        return paired_difference(self.sound.natural, self.core_accurate)


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
    What any attack on a model broke is broken; of its certificates the most telling count.

    Args:
        models: All records of a report.
        wanted: Radii to report; by default all that were judged together with their double.
        attacked: Robust accuracy under attack by (run, name of the composition, eps).
        attacks: Rows of such attacks, which say more: what they broke is not counted as sound.
        kind: Count with attacks or with certificates; a core that has none is never proven robust.

    Raises:
        RecordError: Two models of one run were judged on different samples.
    """
    known = attacked or {}
    whole = {id(m): _worst_case(m, models) if kind == ROBUST else m for m in models}
    composed = [
        _refuted(
            account(
                whole[id(stage)],
                whole[id(core)],
                eps,
                known.get((stage.run, _name(stage, core), eps)),
                kind=kind,
            ),
            attacks if kind == ROBUST else (),
        )
        for stage in models
        if stage.role == "robust" and stage.verdicts.labelled
        for core in _cores(stage, models)
        for eps in common_radii(stage, core, wanted, kind)
        if _telling_most(stage, models, eps, kind) and _telling_most(core, models, eps, kind)
    ]
    return sorted(composed, key=_question)


def account(
    stage: Judged, core: Judged, eps: str, attacked: float | None = None, *, kind: Kind = ROBUST
) -> Composed:
    """Count one composition at one radius.

    Raises:
        RecordError: A verdict that is needed was not recorded.
    """
    first, last = stage_of(stage.verdicts, eps, kind), core_of(core.verdicts, eps, kind)
    return Composed(
        stage=stage,
        core=core,
        eps=eps,
        sound=sound_account([first], last),
        paper=paper_account([first], last),
        selects=first.selects,
        core_accurate=last.accurate,
        core_robust=last.accurate & last.robust,
        attacked=attacked,
        kind=kind,
    )


def _refuted(composed: Composed, attacks: Sequence[Record]) -> Composed:
    """The composition, its sound count without what adversaries of the whole of it broke."""
    chain = [composed.stage.verdicts, composed.core.verdicts]
    found = met_by(chain, attacks, composed.eps)
    if found is None:
        return composed
    sound = composed.sound
    kept = replace(sound, robust=sound.robust & ~found.refutes(sound.robust))
    return replace(composed, sound=kept, attacked=rate(found.left[found.met]))


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


def recommended(compositions: Sequence[Composed]) -> Composed | None:
    """The one of largest sound robust accuracy that gives up at most a point of natural accuracy.

    Where none is that cheap, the one of largest natural plus sound robust accuracy.
    """
    cheap = [c for c in compositions if _natural(c) >= c.core_accurate.mean() - ALLOWED_LOSS]
    if cheap:
        return max(cheap, key=lambda c: (_robust(c), _natural(c)))
    return max(compositions, key=lambda c: _natural(c) + _robust(c), default=None)


def _natural(c: Composed) -> float:
    return float(c.sound.natural.mean())


def _robust(c: Composed) -> float:
    return float(c.sound.robust.mean())


def _question(c: Composed) -> tuple[str, str, float]:
    return c.stage.meta.dataset, c.stage.meta.norm, parse_radius(c.eps)


def _name(stage: Judged, core: Judged) -> str:
    return f"{stage.meta.model} → {core.meta.model}"


def _cores(stage: Judged, models: Sequence[Judged]) -> Iterator[Judged]:
    cores = [m for m in models if m.role == "core" and _same_question(stage, m)]
    own = [m for m in cores if m.run == stage.run]
    for core in own or cores:
        if _comparable(stage, core):
            yield core


def _telling_most(model: Judged, models: Sequence[Judged], eps: str, kind: Kind) -> bool:
    """Whether no other record of the same model says more at eps, the first of equal ones."""
    rivals = _records_of(model, models)
    return max(rivals, key=lambda m: telling(m.verdicts, eps, kind)) is model


def _worst_case(model: Judged, models: Sequence[Judged]) -> Judged:
    """The model with the verdicts of all attacks on it together."""
    others = [m.verdicts for m in _records_of(model, models) if m is not model]
    return replace(model, verdicts=worst_case([model.verdicts, *others]))


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
