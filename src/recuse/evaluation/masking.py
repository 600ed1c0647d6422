"""A second look at what an evaluation called robust, for signs that the network hides its gradient.

The samples looked at are fixed by their place in the data set, and their noise by their ids, so
that a record is the same for any batch size and after any interruption.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Labels
from recuse.attacks import MaskingCheck, MaskingSigns, RadiiOutcome
from recuse.random import SampleNoise
from recuse.records.schema import Recheck, radius_column

Columns = dict[str, Any]


def rechecked(
    model: nn.Module,
    x: Images,
    y: Labels,
    found: RadiiOutcome,
    ids: Sequence[str],
    *,
    check: MaskingCheck | None,
    again: Collection[str],
    seed: int,
) -> tuple[RadiiOutcome, Columns]:
    """Search again what was called robust, each input at the largest radius at which it was.

    Args:
        model: The network itself, not a copy.
        x: Inputs.
        y: Reference labels.
        found: What the evaluation's attack found.
        ids: The inputs' ids.
        check: The further searches; None leaves all as it is.
        again: Ids of the inputs that are looked at, if they were called robust.
        seed: Of the random starts, together with each input's id.

    Returns:
        The outcome, in which what was broken now is broken, and the record's columns that say so.
    """
    if check is None:
        return found, {}
    noise = SampleNoise(seed, tuple(ids), "recheck")
    asked = torch.tensor([i in again for i in ids], dtype=torch.bool, device=x.device)
    signs: list[str | None] = [None] * len(x)
    passes: list[int | None] = [None] * len(x)
    broken, judged = [m.clone() for m in found.broken], [m.clone() for m in found.judged]
    last = _largest_robust(found)
    for index, threat in enumerate(found.threats):
        rows = (asked & (last == index)).nonzero().squeeze(1)
        if len(rows) == 0:
            continue
        seen = check(model, x[rows], y[rows], threat, noise=noise.take(rows.tolist()))
        for larger in range(index, len(broken)):
            broken[larger][rows] |= seen.broken
            judged[larger][rows] |= seen.broken
        spent = (seen.forwards + seen.backwards).tolist()
        for row, name, count in zip(rows.tolist(), _names(seen), spent, strict=True):
            signs[row], passes[row] = name, count
    outcome = replace(found, broken=tuple(broken), judged=tuple(judged))
    return outcome, {"recheck": signs, "recheck_passes": passes}


def _largest_robust(found: RadiiOutcome) -> Tensor:
    """Index of the largest ball in which each input was called robust; -1 for none."""
    robust = [j & ~b for j, b in zip(found.judged, found.broken, strict=True)]
    return torch.stack(robust).to(torch.int64).sum(0) - 1


def _names(seen: MaskingSigns) -> Sequence[str]:
    signs = zip(seen.random.tolist(), seen.black_box.tolist(), seen.few_steps.tolist(), strict=True)
    return [
        Recheck.RANDOM
        if random
        else Recheck.BLACK_BOX
        if black
        else Recheck.FEWER_STEPS
        if few
        else Recheck.HELD
        for random, black, few in signs
    ]


def verdict_columns(found: RadiiOutcome) -> Columns:
    """The verdict at each radius, null where nothing could be searched, and where any is null."""
    flat = torch.zeros_like(found.broken[0])
    columns: Columns = {}
    for threat, broken, judged in zip(found.threats, found.broken, found.judged, strict=True):
        pairs = zip(broken.tolist(), judged.tolist(), strict=True)
        robust = [not hit if known else None for hit, known in pairs]
        columns[radius_column("robust", threat.eps)] = robust
        flat |= ~judged
    return columns | {"flat": flat.cpu().numpy()}


__all__ = ["rechecked", "verdict_columns"]
