"""What a deployed stage surely does against an attacker: its verdicts, sample by sample."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from recuse.analysis.accounting import StageVerdicts
from recuse.analysis.compositions import stage_of
from recuse.analysis.mechanisms import margin_stage, robust_softmax_stage
from recuse.analysis.verdicts import Values, Verdicts
from recuse.composition import Stage
from recuse.data.split import Split
from recuse.evaluation.score_stage import score_stage
from recuse.progress import Progress
from recuse.selectors import RobustMargin, RobustnessIndicator, RobustSoftmaxResponse
from recuse.threat import Threat

SCORED = "scored"
# Above which threshold a bound is known, and the bound.
_BOUNDS: dict[type, tuple[float, Callable[..., StageVerdicts]]] = {
    RobustMargin: (0.0, margin_stage),
    RobustSoftmaxResponse: (0.5, robust_softmax_stage),
}


def stage_verdicts(
    stage: Stage,
    judged: Verdicts,
    split: Split,
    budget: Threat,
    *,
    seed: int,
    run: Path,
    progress: Progress,
) -> StageVerdicts | None:
    """Where a stage surely selects and is right; None where no bound is known for its selector.

    A margin and a robust softmax are asked once more, at the radius of their own plus the budget:
    where they still select, they select wherever the attacker moves the image, as far as their
    search can tell.

    Args:
        stage: As deployed.
        judged: The stage's network by itself, at the budget and twice the budget.
        split: The same images.
        budget: The attacker's ball.
        seed: Of the searches.
        run: Run folder.
        progress: Told after every batch.
    """
    selector, eps = stage.selector, budget.radius
    if isinstance(selector, RobustnessIndicator) and selector.reach.own == budget:
        return stage_of(judged, eps)
    if not isinstance(selector, RobustMargin | RobustSoftmaxResponse):
        return None
    least, verdicts = _BOUNDS[type(selector)]
    own, sure = selector.reach.own, selector.reach.sure
    askable = budget.norm != "linf" or sure.eps + budget.eps <= 1
    if selector.threshold <= least or not askable:
        return None
    near, far = (
        _scores(
            replace(stage, selector=replace(selector, radius=ball.eps)),
            judged, split, budget, seed, run, progress,
        )
        for ball in (own, sure)
    )  # fmt: skip
    return verdicts(
        judged.accurate(),
        judged.stable("robust", eps),
        near,
        np.minimum(near, far),
        threshold=selector.threshold,
    )


def _scores(
    stage: Stage,
    judged: Verdicts,
    split: Split,
    budget: Threat,
    seed: int,
    run: Path,
    progress: Progress,
) -> Values:
    record = score_stage(stage, budget, split, records=run / SCORED, seed=seed, progress=progress)
    frame = judged.frame.select("sample_id").join(
        record.frame.select("sample_id", "score"), on="sample_id", maintain_order="left"
    )
    return np.asarray(frame["score"].to_numpy(), dtype=np.float64)


__all__ = ["SCORED", "stage_verdicts"]
