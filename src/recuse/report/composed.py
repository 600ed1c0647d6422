"""Compositions of the robust models of a report with its cores, counted soundly and otherwise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from recuse.analysis.accounting import Account, Core, paper_account, sound_account
from recuse.analysis.compositions import stage_of
from recuse.analysis.intervals import Interval, paired_difference, wilson_of
from recuse.analysis.verdicts import Mask, add_radii, check_comparable
from recuse.errors import RecordError
from recuse.radius import parse_radius
from recuse.report.measured import ROBUST, Judged

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
        core_robust: The core alone is right and no attack changes it.
        attacked: Robust accuracy against an attack on the composition itself, if there is one.
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
) -> list[Composed]:
    """Every robust model before every core that was judged on the same samples.

    A robust model meets the cores of its own run, or any other run's if its own has none. Of
    several records of one model, the one whose attack broke most counts.

    Args:
        models: All records of a report.
        wanted: Radii to report; by default all that were judged together with their double.
        attacked: Robust accuracy under attack by (run, name of the composition, eps).

    Raises:
        RecordError: Two models of one run were judged on different samples.
    """
    known = attacked or {}
    composed = [
        account(stage, core, eps, known.get((stage.run, _name(stage, core), eps)))
        for stage in models
        if stage.role == "robust" and stage.verdicts.labelled
        for core in _cores(stage, models)
        for eps in common_radii(stage, core, wanted)
        if _strongest(stage, models, eps) and _strongest(core, models, eps)
    ]
    return sorted(composed, key=_question)


def account(stage: Judged, core: Judged, eps: str, attacked: float | None = None) -> Composed:
    """Count one composition at one radius.

    Raises:
        RecordError: A verdict that is needed was not recorded.
    """
    first = stage_of(stage.verdicts, eps)
    last = Core(core.verdicts.accurate(), core.verdicts.robust(eps))
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
    )


def common_radii(stage: Judged, core: Judged, wanted: frozenset[str]) -> list[str]:
    """Radii at which both were judged, and the stage at the double too."""
    own = stage.verdicts.judged(ROBUST)
    fit = [
        r
        for r in own
        if parse_radius(r) > 0
        and core.verdicts.has(ROBUST, r)
        and stage.verdicts.has(ROBUST, add_radii(r, r))
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


def _strongest(model: Judged, models: Sequence[Judged], eps: str) -> bool:
    """Whether no other record of the same model has fewer unbroken samples within eps."""
    rivals = [
        m
        for m in models
        if (m.run, m.meta.model, m.meta.norm) == (model.run, model.meta.model, model.meta.norm)
        and m.meta.dataset == model.meta.dataset
        and m.verdicts.has(ROBUST, eps)
        and _doubled(m, eps) >= _doubled(model, eps)
    ]
    return min(rivals, key=lambda m: m.verdicts.robust(eps).mean()) is model


def _doubled(model: Judged, eps: str) -> bool:
    return model.verdicts.has(ROBUST, add_radii(eps, eps))


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
