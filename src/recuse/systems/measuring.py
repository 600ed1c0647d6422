"""What a cascade is worth on images that nothing was chosen on: natural, sound, attacked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recuse.analysis.accounting import CoreVerdicts, sound_account
from recuse.analysis.compositions import core_of
from recuse.analysis.intervals import Interval, wilson_of
from recuse.analysis.networks import gather
from recuse.analysis.verdicts import Mask, Verdicts, verdicts
from recuse.composition import Cascade
from recuse.data.split import Split
from recuse.evaluation.attack_cascade import CascadeAttack, attack_cascade
from recuse.progress import Progress
from recuse.records.layout import COMPOSITION_RECORDS
from recuse.systems.bounds import stage_verdicts
from recuse.systems.judging import Judge, alone


def measure(
    cascade: Cascade, split: Split, attack: CascadeAttack, *, run: Path, progress: Progress
) -> dict[str, Any]:
    """Attack a cascade and each of its members alone, and count; a rerun does what is missing.

    Args:
        cascade: As deployed.
        split: Images that nothing was chosen on, with labels.
        attack: What the cascade is attacked with.
        run: Run folder of the records.
        progress: Told after every batch.

    Returns:
        JSON values: rates as ``[rate, low, high]`` with 95 % intervals. ``sound`` is None where
        no bound is known for these selectors.
    """
    whole = attack_cascade(
        cascade, split, attack, records=run / COMPOSITION_RECORDS, progress=progress
    )
    judge = Judge(split, cascade.budget, attack.seed, run, progress)
    parts = [alone(member, judge) for member in cascade.members]
    if cascade.core is not None:  # what broke a member in the composition broke it
        known = iter(gather([model for part in parts for model in part], [whole]))
        parts = [[next(known) for _ in part] for part in parts]
    judged, eps = verdicts(whole), cascade.budget.radius
    attacked = judged.stable("robust", eps)
    sound = _sound(cascade, parts, attacked, judge)
    stages = [model for part in parts[: len(cascade.stages)] for model in part]
    return {
        "data": split.name,
        "rows": len(split),
        "natural": plain(wilson_of(judged.accurate())),
        "sound": None if sound is None else plain(wilson_of(sound)),
        "attacked": plain(wilson_of(attacked)),
        "selected": plain(wilson_of(judged.selected())),
        "stage_alone": {model.meta.model: _rates(model, eps) for model in stages},
        "core_alone": None if cascade.core is None else _rates(parts[-1][0], eps),
    }


def _sound(
    cascade: Cascade, parts: Sequence[Sequence[Verdicts]], attacked: Mask, judge: Judge
) -> Mask | None:
    """Images on which the cascade surely answers rightly; None where no bound is known.

    What an adversary of the whole broke is not counted, whatever the members' verdicts say.
    """
    found = [
        stage_verdicts(stage, judged, judge)
        for stage, judged in zip(cascade.stages, parts, strict=False)
    ]
    stages = [verdict for verdict in found if verdict is not None]
    if len(stages) < len(found):
        return None
    nobody = np.zeros_like(attacked)
    core = CoreVerdicts(nobody, nobody)
    if cascade.core is not None:
        core = core_of(parts[-1][0], cascade.budget.radius)
    return sound_account(stages, core).robust & attacked


def _rates(judged: Verdicts, eps: str) -> dict[str, list[float]]:
    right, stable = judged.accurate(), judged.stable("robust", eps)
    return {"natural": plain(wilson_of(right)), "robust": plain(wilson_of(right & stable))}


def plain(interval: Interval) -> list[float]:
    """An interval as JSON values: rate, lower end, upper end."""
    return [round(v, 6) for v in (interval.estimate, interval.low, interval.high)]


__all__ = ["measure", "plain"]
