"""How far the classes of CIFAR-10 are apart, over all training and test images.

    RECUSE_DATA=... python experiments/geometry_cifar10.py --norm linf

All 50,000 training images against each other and all 10,000 test images against them, exactly,
on the JPEG images; the same on the lossless images at hand. Results: results/geometry.
"""

from pathlib import Path
from typing import Literal

import tyro

from recuse.cli.geometry import study
from recuse.data import Cifar10, find_data_root
from recuse.radius import parse_radius

EPS = ("1/255", "2/255", "8/255")


def main(
    norm: Literal["linf", "l2"] = "linf",
    images: Literal["jpeg", "lossless", "official"] = "jpeg",
    out: Path = Path("results/geometry"),
    limit: int | None = None,
) -> None:
    """Run one norm on one form of the images.

    Args:
        norm: linf or l2.
        images: jpeg (all of CIFAR-10), lossless (the subset at hand) or official.
        out: Folder of the results.
        limit: Only the first so many images of each part.
    """
    splits = Cifar10(train=images, test=images).load(find_data_root())
    eps = EPS if norm == "linf" else ("0.12", "0.25", "0.5")
    radii = {text: parse_radius(text) for text in eps}
    study(splits, norm, out / f"cifar10-{images}", radii, limit=limit)


if __name__ == "__main__":
    tyro.cli(main)
