"""What a composition is worth, three ways: paper, sound and attacked accounting.

H = stages (F_1, S_1) … (F_k, S_k), then a core that never abstains; the first stage that
selects answers. Pure functions of boolean arrays, one entry per sample.

What a stage's verdicts follow from stands in :mod:`recuse.analysis.mechanisms`, mechanism by
mechanism. What holds for robustness indicators, per sample and for every number of stages: if
verdicts are monotone in the radius, rho = eps, and both accountings use the same selection
``rob_2eps``, then the sound verdict implies the paper's. Without monotone verdicts it can fail
(``rob_2eps`` without ``rob_eps``). The natural accuracies have no such
order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recuse.analysis.intervals import RESAMPLES, Interval, paired_difference
from recuse.analysis.verdicts import Mask


@dataclass(frozen=True)
class StageVerdicts:
    """One stage's verdicts per sample.

    Attributes:
        accurate: F(x) = y.
        robust: rob_eps (the paper's accounting asks it of the answering stage).
        selects: The deployed selector accepts x.
        surely_selects: It accepts every x' in the ball of the attacker.
        right_where_selecting: At every x' of the ball where it accepts, it answers y.
        may_select: Some x' in the ball may be accepted; None where nothing rules it out.
    """

    accurate: Mask
    robust: Mask
    selects: Mask
    surely_selects: Mask
    right_where_selecting: Mask
    may_select: Mask | None = None


@dataclass(frozen=True)
class CoreVerdicts:
    """The last model, which always answers.

    Attributes:
        accurate: F(x) = y.
        robust: rob_eps.
    """

    accurate: Mask
    robust: Mask


@dataclass(frozen=True)
class Account:
    """Per-sample outcome of one way of counting.

    Attributes:
        natural: H(x) = y as this accounting sees it.
        robust: H(x') = y for all x' in the ball, as this accounting sees it.
    """

    natural: Mask
    robust: Mask


@dataclass(frozen=True)
class Difference:
    """What one system has over another on the same samples, with intervals.

    Attributes:
        natural: Of natural accuracy.
        robust: Of robust accuracy.
    """

    natural: Interval
    robust: Interval


def difference(account: Account, other: Account, *, resamples: int = RESAMPLES) -> Difference:
    """What ``account`` has over ``other``: paired, 95 %."""
    return Difference(
        paired_difference(account.natural, other.natural, resamples=resamples),
        paired_difference(account.robust, other.robust, resamples=resamples),
    )


def paper_account(
    stages: Sequence[StageVerdicts], core: CoreVerdicts, *, doubled_natural: bool = True
) -> Account:
    """The paper's formula, extended to any number of stages.

    natural = [S ? acc_1 : acc_core] and robust = [rob_2eps ? acc_1 ∧ rob_1,eps :
    acc_core ∧ rob_core,eps]. For the robustness indicator the paper takes S = rob_2eps also
    for natural accuracy; for softmax response and selection networks S is the decision at x.

    Args:
        stages: In the order in which they answer; may be empty.
        core: The core model.
        doubled_natural: S is ``surely_selects`` (robustness indicator), else ``selects``.
    """
    natural, robust = core.accurate, core.accurate & core.robust
    for stage in reversed(stages):
        chosen = stage.surely_selects if doubled_natural else stage.selects
        natural = np.where(chosen, stage.accurate, natural)
        robust = np.where(stage.surely_selects, stage.accurate & stage.robust, robust)
    return Account(natural, robust)


def sound_account(stages: Sequence[StageVerdicts], core: CoreVerdicts) -> Account:
    """Natural accuracy of the deployed composition and a lower bound on its robust accuracy.

    Let J be the first stage that surely selects (or the core). H is robust-accurate at x if
    every stage up to J is right wherever it may select in the ball, and, where J is the
    core, the core is accurate and robust. The bound is as strong as the verdicts: a proof
    with certificates, an estimate with attacks.
    """
    natural, robust = core.accurate, core.accurate & core.robust
    for stage in reversed(stages):
        natural = np.where(stage.selects, stage.accurate, natural)
        safe = stage.right_where_selecting
        if stage.may_select is not None:
            safe = safe | ~stage.may_select
        robust = safe & (stage.surely_selects | robust)
    return Account(natural, robust)


def attacked_account(natural: Mask, broken: Mask) -> Account:
    """Upper bound on robust accuracy from an adaptive attack on the composition itself.

    Args:
        natural: H(x) = y of the deployed composition.
        broken: The attack found a point of the ball at which H answers wrongly.
    """
    return Account(natural, natural & ~broken)


@dataclass(frozen=True)
class Hidden:
    """The samples on which the paper's and the sound accounting differ, by reason.

    Attributes:
        natural_gained: Right by the paper's natural accuracy, wrong as deployed (the selector
            of radius eps lets a wrong stage answer).
        natural_lost: Wrong by the paper's, right as deployed.
        robust_unproven: Robust by the paper's count only: off rob_2eps the stage may still be
            selected and is wrong.
        robust_gained: Robust by the sound count only; impossible with monotone verdicts, so
            these are contradictions in the log.
        wrong_at_x: Part of ``robust_unproven`` that H answers wrongly at x itself.
    """

    natural_gained: Mask
    natural_lost: Mask
    robust_unproven: Mask
    robust_gained: Mask
    wrong_at_x: Mask


def explain(paper: Account, sound: Account) -> Hidden:
    """Which samples explain the difference between the two accountings."""
    unproven = paper.robust & ~sound.robust
    return Hidden(
        natural_gained=paper.natural & ~sound.natural,
        natural_lost=~paper.natural & sound.natural,
        robust_unproven=unproven,
        robust_gained=~paper.robust & sound.robust,
        wrong_at_x=unproven & ~sound.natural,
    )


def expected_cost(costs: Sequence[float], stages: Sequence[StageVerdicts]) -> float:
    """Σ_j c_j · P(all earlier stages abstain), the core's cost last in ``costs``.

    Raises:
        ValueError: Not one cost per stage and one for the core.
    """
    if len(costs) != len(stages) + 1:
        raise ValueError(f"{len(costs)} costs for {len(stages)} stages and a core")
    total, left = float(costs[0]), None
    for cost, stage in zip(costs[1:], stages, strict=True):
        left = ~stage.selects if left is None else left & ~stage.selects
        total += cost * float(np.mean(left))
    return total
