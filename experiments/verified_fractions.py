"""What bounds prove about provably trained networks, beside what PGD allows.

The share of test images that are right and proven by interval bounds, by linear bounds, and right
and not broken by PGD, at the radii the networks were trained for.

    python experiments/verified_fractions.py --out results/certified/verified.csv
"""

import argparse
from pathlib import Path

import polars as pl
import torch

from recuse.attacks import Pgd
from recuse.certify import Crown, Ibp
from recuse.cli.console import progress_display
from recuse.data import Cifar10, Mnist, Source, find_data_root
from recuse.models.zoo import load_model
from recuse.protocols import Certifier
from recuse.radius import format_radius
from recuse.random import SampleNoise
from recuse.records.store import write_atomically
from recuse.threat import Threat

CIFAR, MNIST = Cifar10(test="lossless"), Mnist()
NETWORKS: tuple[tuple[str, Source, tuple[float, ...]], ...] = (
    ("cifar10_small_kw_8px", CIFAR, (2 / 255, 4 / 255, 8 / 255)),
    ("cifar10_wide_kw", CIFAR, (1 / 255, 2 / 255)),
    ("mnist_small_kw03", MNIST, (0.1, 0.2, 0.3)),
)
CERTIFIERS: dict[str, Certifier] = {"ibp": Ibp(), "crown": Crown()}


def measure(
    name: str, source: Source, radii: tuple[float, ...], images: int
) -> list[dict[str, object]]:
    """One row per radius, shares of the images."""
    root = find_data_root()
    model = load_model(name, data_root=root)[0].eval()
    split = source.load_test(root).head(images)
    noise = SampleNoise(0, split.ids)
    found = {k: c.decide(model, split.images, radii, noise=noise) for k, c in CERTIFIERS.items()}
    prediction = found["ibp"].prediction
    right = prediction == split.labels
    rows: list[dict[str, object]] = []
    for column, radius in enumerate(radii):
        attacked = Pgd(steps=40)(
            model, split.images, prediction, Threat("linf", radius), noise=noise
        ).success
        row: dict[str, object] = {"model": name, "radius": format_radius(radius), "images": images}
        for method, certificate in found.items():
            proven = certificate.certified[:, column]
            row |= {
                f"{method} right": share(proven & right),
                f"{method} wrong": share(proven & ~right),
                f"{method} broken by pgd": int((proven & attacked).sum()),
            }
        rows.append(row | {"pgd right": share(right & ~attacked), "accuracy": share(right)})
    return rows


def share(mask: torch.Tensor) -> float:
    """Share of true entries."""
    return round(float(mask.double().mean()), 4)


def main() -> None:
    """Measure every network and write one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("results/certified/verified.csv"))
    parser.add_argument("--images", type=int, default=100)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    with progress_display() as progress:
        for number, (name, source, radii) in enumerate(NETWORKS):
            progress("networks", number, len(NETWORKS), name)
            rows += measure(name, source, radii, options.images)
    write_atomically(options.out, pl.DataFrame(rows).write_csv().encode())


if __name__ == "__main__":
    main()
