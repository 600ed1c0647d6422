"""Robust losses compared, alone and inside ERA: image by image, over data sets, radii and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recuse.analysis.compositions import count_composition
from recuse.analysis.loss_names import loss_name
from recuse.analysis.networks import gather, of_its_own
from recuse.analysis.verdicts import Mask, Values, Verdicts, verdicts
from recuse.records.run_folder import RunFolder

Group = tuple[str, str, str]


class Estimate(NamedTuple):
    """A mean and the half-width of its 95 % interval."""

    mean: float
    half: float

    @property
    def apart(self) -> bool:
        """Whether the interval excludes 0."""
        return abs(self.mean) > self.half


@dataclass(frozen=True, eq=False)
class Cell:
    """One network of the comparison, one number per quantity and test image.

    Attributes:
        dataset: Data set.
        network: Architecture.
        eps: Radius of training and judgement.
        seed: Of training.
        loss: Robust loss, as tables call it.
        inside_era: Whether it is the robust half of ERA.
        values: Of the network by itself (``natural``, ``robust``, ``robust_inaccurate``) and
            behind its indicator in front of the core (``composed_natural``, ``composed_robust``).
        core: ``natural`` and ``robust`` of the core by itself.
    """

    dataset: str
    network: str
    eps: str
    seed: int
    loss: str
    inside_era: bool
    values: Mapping[str, Values]
    core: Mapping[str, Values]

    @property
    def group(self) -> Group:
        """Data set, architecture and radius, which share a core."""
        return self.dataset, self.network, self.eps


def cells(run: RunFolder) -> list[Cell]:
    """Every robust network of a run, by itself and in front of the core of its data set.

    Raises:
        RecordError: No core of its data set, or a radius that was not judged.
    """
    judged = of_its_own(gather([verdicts(record) for record in run.records], run.attacks))
    cores = {m.meta.dataset: m for m in judged if m.meta.tags["role"] == "core"}
    found = [_cell(m, cores[m.meta.dataset]) for m in judged if m.meta.tags["role"] == "robust"]
    return sorted(found, key=lambda c: (*c.group, c.seed, c.loss.lower(), c.inside_era))


def _cell(model: Verdicts, core: Verdicts) -> Cell:
    tags, eps = model.meta.tags, str(model.meta.tags["eps"])
    stable, right, sure = model.robust(eps), model.accurate(), core.accurate()
    whole = count_composition([model, core], eps, "robust").sound
    return Cell(
        dataset=str(tags["dataset"]),
        network=str(tags["network"]),
        eps=eps,
        seed=int(tags["seed"]),
        loss=loss_name(str(tags["loss"])),
        inside_era=bool(tags["era"]),
        values=_numbers(
            natural=right,
            robust=right & stable,
            robust_inaccurate=~right & stable,
            composed_natural=whole.natural,
            composed_robust=whole.robust,
        ),
        core=_numbers(natural=sure, robust=sure & core.robust(eps)),
    )


def _numbers(**masks: Mask) -> dict[str, Values]:
    return {name: mask.astype(np.float64) for name, mask in masks.items()}


def estimate(parts: Sequence[Values]) -> Estimate:
    """Mean over data sets of the means over images.

    Images of one data set come as one part, whatever radii and seeds lie behind each value: the
    same image counts once.
    """
    mean = np.mean([part.mean() for part in parts])
    variance = sum(part.var(ddof=1) / len(part) for part in parts) / len(parts) ** 2
    return Estimate(float(mean), float(1.96 * np.sqrt(variance)))


def per_image(found: Sequence[Cell], quantity: str) -> list[Values]:
    """Per data set the mean over radii and seeds, one number an image."""
    return [
        np.mean([c.values[quantity] for c in found if c.dataset == dataset], axis=0)
        for dataset in sorted({c.dataset for c in found})
    ]


def mean(found: Sequence[Cell], quantity: str) -> Estimate:
    """A quantity of several networks."""
    return estimate(per_image(found, quantity))


def difference(
    first: Sequence[Cell], second: Sequence[Cell], quantity: str, other: str = ""
) -> Estimate:
    """Mean of ``quantity`` of the first minus that (or ``other``) of the second, by image."""
    pairs = zip(per_image(first, quantity), per_image(second, other or quantity), strict=True)
    return estimate([one - two for one, two in pairs])


def chosen(found: Sequence[Cell], loss: str, *, inside: bool) -> list[Cell]:
    """The networks of one loss."""
    return [c for c in found if c.loss == loss and c.inside_era == inside]


def gain(found: Sequence[Cell], loss: str, quantity: str) -> Estimate:
    """What a loss has more inside ERA than alone."""
    inside, alone = (chosen(found, loss, inside=i) for i in (True, False))
    return difference(inside, alone, quantity)


def losses(found: Sequence[Cell]) -> list[str]:
    """Losses trained alone and inside ERA, the one that alone composes most robustly first."""
    return sorted(
        dict.fromkeys(c.loss for c in found),
        key=lambda loss: -mean(chosen(found, loss, inside=False), "composed_robust").mean,
    )


def groups(found: Sequence[Cell]) -> dict[Group, list[Cell]]:
    """Networks by data set, architecture and radius."""
    return {
        key: [c for c in found if c.group == key] for key in dict.fromkeys(c.group for c in found)
    }
