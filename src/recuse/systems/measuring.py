"""What a cascade is worth on images that nothing was chosen on: natural, sound, attacked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recuse.analysis.accounting import Core as CoreVerdicts
from recuse.analysis.accounting import sound_account
from recuse.analysis.chains import stage_of
from recuse.analysis.compositions import compose_records
from recuse.analysis.intervals import Interval, wilson_of
from recuse.analysis.verdicts import Mask, verdicts
from recuse.attacks import Apgd
from recuse.composition import Cascade
from recuse.data.split import Split
from recuse.evaluation import Evaluation, evaluate, judged_radii
from recuse.evaluation.attack_cascade import CascadeAttack, attack_cascade
from recuse.progress import Progress
from recuse.records.layout import COMPOSITION_RECORDS, RECORDS
from recuse.records.schema import Record
from recuse.selectors import RobustnessIndicator


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
    alone = [
        _alone(cascade, place, split, attack.seed, run, progress)
        for place in range(len(cascade.members))
    ]
    judged, eps = verdicts(whole), cascade.budget.radius
    sound = _sound(cascade, alone, whole)
    stages = len(cascade.stages)
    return {
        "data": split.name,
        "rows": len(split),
        "natural": plain(wilson_of(judged.accurate())),
        "sound": None if sound is None else plain(wilson_of(sound)),
        "attacked": plain(wilson_of(judged.stable("robust", eps))),
        "selected": plain(wilson_of(judged.selected())),
        "stage_alone": {record.meta.model: _rates(record, eps) for record in alone[:stages]},
        "core_alone": None if cascade.core is None else _rates(alone[-1], eps),
    }


def _alone(
    cascade: Cascade, place: int, split: Split, seed: int, run: Path, progress: Progress
) -> Record:
    """A member judged by itself, at the budget and twice the budget."""
    member, budget = cascade.members[place], cascade.budget
    core = place == len(cascade.stages)
    evaluation = Evaluation(budget.norm, judged_radii([budget.eps]), Apgd(steps=40), seed=seed)
    return evaluate(
        member.model,
        split,
        evaluation,
        name=member.name,
        records=run / RECORDS,
        tags={"role": "core" if core else "robust"},
        progress=progress,
    )


def _sound(cascade: Cascade, alone: Sequence[Record], whole: Record) -> Mask | None:
    """Images on which the cascade surely answers rightly; None where no bound is known."""
    eps, names = cascade.budget.radius, cascade.names
    selectors = [stage.selector for stage in cascade.stages]
    plain_indicators = all(
        isinstance(s, RobustnessIndicator) and s.reach.own == cascade.budget for s in selectors
    )
    if not (plain_indicators and selectors):
        return None
    if cascade.core is not None:
        (chain,) = compose_records(
            alone, eps=eps, core=names[-1], stages=names[:-1], kind="robust", attacks=[whole]
        )
        return chain.sound.robust
    stages = [stage_of(verdicts(record), eps) for record in alone]
    nobody = np.zeros_like(stages[0].accurate)
    account = sound_account(stages, CoreVerdicts(nobody, nobody))
    return account.robust & verdicts(whole).stable("robust", eps)


def _rates(record: Record, eps: str) -> dict[str, list[float]]:
    judged = verdicts(record)
    right, stable = judged.accurate(), judged.stable("robust", eps)
    return {"natural": plain(wilson_of(right)), "robust": plain(wilson_of(right & stable))}


def plain(interval: Interval) -> list[float]:
    """An interval as JSON values: rate, lower end, upper end."""
    return [round(v, 6) for v in (interval.estimate, interval.low, interval.high)]


__all__ = ["measure", "plain"]
