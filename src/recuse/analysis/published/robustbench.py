"""The public leaderboard's best entries, as context for numbers of our own; none was measured here.

Source: RobustBench model cards, as of March 2025. Robust accuracy is under AutoAttack, or under
the stronger attack of the entry's authors.
"""

from dataclasses import dataclass

from recuse.radius import parse_radius


@dataclass(frozen=True)
class Entry:
    """One row of a leaderboard.

    Attributes:
        name: Short name of the entry.
        dataset: Data set.
        norm: Norm of the threat.
        eps: Radius of the threat.
        clean: Clean accuracy in percent.
        robust: Robust accuracy in percent.
        mixture: It mixes pretrained networks.
    """

    name: str
    dataset: str
    norm: str
    eps: str
    clean: float
    robust: float
    mixture: bool = False


ENTRIES = (
    Entry("Bartoldson 2024, WRN-94-16", "cifar10", "linf", "8/255", 93.68, 73.71),
    Entry("MixedNUTS", "cifar10", "linf", "8/255", 95.19, 69.71, mixture=True),
    Entry("adaptive smoothing", "cifar10", "linf", "8/255", 95.23, 68.06, mixture=True),
    Entry("Wang 2023", "cifar100", "linf", "8/255", 75.22, 42.66),
    Entry("MixedNUTS", "cifar100", "linf", "8/255", 83.08, 41.80, mixture=True),
    Entry("adaptive smoothing", "cifar100", "linf", "8/255", 85.21, 38.72, mixture=True),
    Entry("MIMIR, Swin-L", "imagenet", "linf", "4/255", 78.62, 59.68),
    Entry("MixedNUTS", "imagenet", "linf", "4/255", 81.48, 58.50, mixture=True),
    Entry("Wang 2023", "cifar10", "l2", "0.5", 95.54, 84.97),
)


def entries(dataset: str, norm: str) -> tuple[Entry, ...]:
    """The entries of a data set, most lenient attacker first.

    Args:
        dataset: Name, with or without its part.
        norm: Norm of the threat.
    """
    name = dataset.partition("/")[0].partition("-")[0].casefold()
    found = [entry for entry in ENTRIES if (entry.dataset, entry.norm) == (name, norm)]
    return tuple(sorted(found, key=lambda entry: parse_radius(entry.eps)))


__all__ = ["ENTRIES", "Entry", "entries"]
