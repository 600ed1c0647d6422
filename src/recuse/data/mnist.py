"""MNIST from parquet files: ``[1, 28, 28]``, grey."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recuse.data.decode import Decoding
from recuse.data.parquet import read_table
from recuse.data.roots import data_file
from recuse.data.split import Split, Splits, hold_out, stratified_parts

_GREY = Decoding(channels=1)
_TEST_FRACTIONS = (0.7, 0.1, 0.2)


@dataclass(frozen=True)
class Mnist:
    """MNIST from ``mnist_train.parquet`` and ``mnist_test.parquet`` of the data folder.

    Attributes:
        rows: ``"official"``: train and test as published. ``"test_only"``: all three parts cut
            from the 10,000 test images, 70 / 10 / 20 %, where only those are at hand; not
            comparable with published numbers.
        seed: Of the cuts.
    """

    rows: Literal["official", "test_only"] = "official"
    seed: int = 0

    def load(self, data_root: Path | None = None) -> Splits:
        """The three parts."""
        if self.rows == "test_only":
            everything = _read(data_root, "test")
            parts = stratified_parts(everything.labels, _TEST_FRACTIONS, seed=self.seed)
            train, validation, test = (everything.take(rows) for rows in parts)
            return Splits(
                train.renamed("mnist/train"),
                validation.renamed("mnist/validation"),
                test,
            )
        train, validation = hold_out(
            _read(data_root, "train"), 0.1, seed=self.seed, name="mnist/validation"
        )
        return Splits(train, validation, _read(data_root, "test"))

    def load_test(self, data_root: Path | None = None) -> Split:
        """The test part alone."""
        if self.rows == "test_only":
            return self.load(data_root).test
        return _read(data_root, "test")


def _read(root: Path | None, part: str) -> Split:
    how = f"MNIST {part} images as parquet (img, label)"
    table = read_table(data_file(root, f"mnist_{part}.parquet", how=how))
    return table.split(f"mnist/{part}", _GREY, prefix=f"mnist/{part}")
