"""The 8x8 handwritten digits that ship with scikit-learn: real images without a download."""

from dataclasses import dataclass
from pathlib import Path

import torch

from recuse.data.split import Split, Splits, stratified_parts

_FRACTIONS = (0.6, 0.15, 0.25)


@dataclass(frozen=True)
class Digits:
    """1,797 digits, ``[1, 8, 8]``, grey values 0..16 divided by 16; cut 60 / 15 / 25 %.

    Attributes:
        seed: Of the stratified cut; fixed so that results compare across runs.
    """

    seed: int = 0

    def load(self, data_root: Path | None = None) -> Splits:
        """The three parts; no data folder is needed."""
        # Heavy, and most programs that know of this set ask for another one.
        from sklearn.datasets import load_digits

        raw = load_digits()
        images = torch.from_numpy(raw.images).to(torch.float32).div_(16).unsqueeze(1)
        labels = torch.from_numpy(raw.target).to(torch.int64)
        ids = tuple(f"digits/{row:04d}" for row in range(len(labels)))
        everything = Split("digits", images, labels, ids, tuple(str(d) for d in range(10)))
        train, validation, test = (
            everything.take(rows) for rows in stratified_parts(labels, _FRACTIONS, seed=self.seed)
        )
        return Splits(
            train.renamed("digits/train"),
            validation.renamed("digits/validation"),
            test.renamed("digits/test"),
        )

    def load_test(self, data_root: Path | None = None) -> Split:
        """The test part alone."""
        return self.load(data_root).test
