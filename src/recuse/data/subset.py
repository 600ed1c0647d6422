"""A part of a data set that keeps the proportions of its classes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from recuse.data.sources import Source
from recuse.data.split import Split, Splits, stratified_parts
from recuse.errors import DataError


@dataclass(frozen=True)
class Subset:
    """Some rows of each part of a data set, drawn by a seed class by class.

    Attributes:
        source: The whole.
        train: About how many training rows; all if absent.
        validation: Likewise.
        test: Likewise.
        seed: Of the draw.
    """

    source: Source
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        counts = [count for count in (self.train, self.validation, self.test) if count is not None]
        if counts and min(counts) < 1:
            raise DataError(f"a subset of {min(counts)} images is none; give 1 or more")

    def load(self, data_root: Path | None = None) -> Splits:
        """The three parts, each cut to its size."""
        return self.of(self.source.load(data_root))

    def of(self, whole: Splits) -> Splits:
        """The parts of data that were loaded already."""
        return Splits(
            balanced(whole.train, self.train, self.seed),
            balanced(whole.validation, self.validation, self.seed),
            balanced(whole.test, self.test, self.seed),
            whole.note,
        )

    def load_test(self, data_root: Path | None = None) -> Split:
        """The test part alone, cut to its size."""
        return balanced(self.source.load_test(data_root), self.test, self.seed)


def load_each(sources: Iterable[Source], data_root: Path | None) -> dict[Source, Splits]:
    """Every source, where subsets of one data set load it once."""
    asked = list(dict.fromkeys(sources))
    wholes = dict.fromkeys(s.source if isinstance(s, Subset) else s for s in asked)
    loaded = {source: source.load(data_root) for source in wholes}
    return {s: s.of(loaded[s.source]) if isinstance(s, Subset) else loaded[s] for s in asked}


def balanced(split: Split, count: int | None, seed: int) -> Split:
    """About ``count`` rows of ``split`` with its classes in proportion; all of them if None."""
    if count is None or count >= len(split):
        return split
    share = count / len(split)
    return split.take(stratified_parts(split.labels, (share, 1 - share), seed=seed)[0])


__all__ = ["Subset", "balanced", "load_each"]
