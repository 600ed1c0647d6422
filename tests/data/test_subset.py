"""Subsets of one data set come from one loading of it."""

from dataclasses import dataclass, field
from pathlib import Path

from recuse.data import Digits, Splits, Subset
from recuse.data.subset import load_each


@dataclass(frozen=True)
class Counted:
    """Digits that note how often they are loaded."""

    loaded: list[int] = field(default_factory=list, compare=False, hash=False)

    def load(self, data_root: Path | None = None) -> Splits:
        self.loaded.append(1)
        return Digits().load(data_root)

    def load_test(self, data_root: Path | None = None):
        return self.load(data_root).test


def test_a_data_set_is_loaded_once_for_all_its_subsets():
    whole = Counted()
    few, fewer = Subset(whole, train=100), Subset(whole, train=50, test=20)
    found = load_each([whole, few, fewer, few], None)
    assert whole.loaded == [1]
    assert len(found[whole].train) > 1000
    for subset in (few, fewer):
        mine, alone = found[subset], subset.load()
        assert mine.train.ids == alone.train.ids
        assert mine.test.ids == alone.test.ids
    assert abs(len(found[fewer].train) - 50) <= 10
