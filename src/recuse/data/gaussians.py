"""Three Gaussian clusters in the unit square, one of them rare and close to another.

Class 2 lies within twice the radius 0.1 of class 1, so no classifier is robust on both: it
must give the rare class up (robustly inaccurate) or stay fragile there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from recuse.data.split import Split, Splits
from recuse.random import generator

LABEL_NAMES = ("left", "right", "rare")
_SHARES = (31 / 64, 1 / 2, 1 / 64)
_CENTRES = ((0.25, 0.25), (0.75, 0.75), (0.55, 0.80))
_DEVIATIONS = ((0.05, 0.05), (0.05, 0.05), (0.05 / 3, 0.05 / 2))


def sample_gaussians(n: int, *, seed: int, part: str) -> Split:
    """Draw ``n`` points: 31/64, 1/2 and 1/64 of them from the three clusters, clipped to [0, 1].

    Args:
        n: Number of points, at least 64 so that every class occurs.
        seed: Of the draw.
        part: ``"train"``, ``"validation"`` or ``"test"``; each is an independent draw.

    Returns:
        Points ``[n, 2]``, classes in order.

    Raises:
        ValueError: ``n < 64``.

    Source: Figure 1 of "Avoiding Robust Misclassifications for Improved Robustness without
    Accuracy Loss", as its code draws it.
    """
    if n < 64:
        raise ValueError(f"n = {n} leaves the rare class (1 of 64) empty; draw at least 64 points")
    counts = [round(share * n) for share in _SHARES[1:]]
    counts.insert(0, n - sum(counts))
    draw = generator(seed, "gaussians", part)
    clusters = [
        torch.randn(count, 2, generator=draw) * torch.tensor(sd) + torch.tensor(centre)
        for count, centre, sd in zip(counts, _CENTRES, _DEVIATIONS, strict=True)
    ]
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    ids = tuple(f"gaussians/{part}/{row:05d}" for row in range(n))
    return Split(f"gaussians/{part}", torch.cat(clusters).clamp_(0, 1), labels, ids, LABEL_NAMES)


@dataclass(frozen=True)
class Gaussians:
    """The synthetic data of the paper's Figure 1.

    Attributes:
        n: Points per part.
        seed: Of the draws.
        judged_on: What ``test`` holds: the training points, as the figure is judged, or a
            fresh draw.
    """

    n: int = 1000
    seed: int = 0
    judged_on: Literal["train", "fresh"] = "train"

    def load(self, data_root: Path | None = None) -> Splits:
        """The three parts; no data folder is needed."""
        return Splits(
            sample_gaussians(self.n, seed=self.seed, part="train"),
            sample_gaussians(self.n, seed=self.seed, part="validation"),
            self.load_test(),
        )

    def load_test(self, data_root: Path | None = None) -> Split:
        """The points to judge on."""
        part = "train" if self.judged_on == "train" else "test"
        return sample_gaussians(self.n, seed=self.seed, part=part)
