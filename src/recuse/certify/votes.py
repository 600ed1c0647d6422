"""Votes under noise: many inputs packed into one batch, counted on the device, one sync a batch.

Draw ``j`` of an input depends only on (seed, stream, input id, j), so votes do not depend on how
inputs are batched, ordered or sharded. (CPU and CUDA draw different numbers from one seed.)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recuse.arrays import Images
from recuse.certify.tables import BLOCK
from recuse.errors import CertificationError
from recuse.random import SampleNoise, stable_seed

ROWS_CPU = 128
ROWS_ACCELERATOR = 4096
_SEED_BITS = 32


@dataclass(frozen=True)
class Piece:
    """Consecutive draws of one input.

    Attributes:
        row: Index of the input.
        start: First draw, a multiple of the block size.
        count: Number of draws.
    """

    row: int
    start: int
    count: int


@dataclass(frozen=True)
class DrawSource:
    """The noise of each input, as standard normal draws in blocks.

    Attributes:
        seeds: One seed per input; block b of an input has the seed plus b, modulo 2^32 (all the
            state that a CPU generator takes), so that no two blocks of an input coincide.
    """

    seeds: tuple[int, ...]

    @classmethod
    def of(cls, noise: SampleNoise) -> "DrawSource":
        """The source that belongs to a run's noise."""
        return cls(tuple(stable_seed(noise.seed, noise.stream, "draws", i) for i in noise.ids))

    def fill(self, out: Tensor, pieces: Iterable[Piece]) -> None:
        """Write the draws of ``pieces``, one after the other, into the rows of ``out``."""
        generator = torch.Generator(out.device)
        row = 0
        for piece in pieces:
            seed = self.seeds[piece.row] + piece.start // BLOCK
            for block, filled in enumerate(range(0, piece.count, BLOCK)):
                generator.manual_seed((seed + block) % (1 << _SEED_BITS))
                rows = out[row + filled : row + min(filled + BLOCK, piece.count)]
                if len(rows) == BLOCK:
                    rows.normal_(generator=generator)
                else:
                    whole = torch.empty((BLOCK, *out.shape[1:]), dtype=out.dtype, device=out.device)
                    rows.copy_(whole.normal_(generator=generator)[: len(rows)])
            row += piece.count


@dataclass(frozen=True, eq=False)
class Voters:
    """A classifier under Gaussian noise, asked for votes.

    Attributes:
        model: Network in eval mode; what is certified is this very network, in this precision.
        x: Inputs in [0, 1].
        sigma: Standard deviation of the noise, in pixel units; noisy inputs are not clipped.
        noise: Seed, stream and one id per input.
        batch_size: Most rows per forward pass, a multiple of the block size; None: the size
            that keeps activations of a small network in a CPU's cache, or an accelerator busy.
    """

    model: nn.Module
    x: Images
    sigma: float
    noise: SampleNoise
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if len(self.noise.ids) != len(self.x):
            raise ValueError(f"{len(self.noise.ids)} ids for {len(self.x)} inputs; give one each")
        if self.rows < BLOCK or self.rows % BLOCK:
            raise CertificationError(
                f"batch size {self.rows} must be a multiple of {BLOCK}, the noise block"
            )
        if any(module.training for module in self.model.modules()):
            raise CertificationError(
                "the model is in training mode, where its answers depend on the batch; call "
                "model.eval() before certifying"
            )

    @property
    def rows(self) -> int:
        """Most rows per forward pass."""
        if self.batch_size is not None:
            return self.batch_size
        return ROWS_CPU if self.x.device.type == "cpu" else ROWS_ACCELERATOR

    def clean(self) -> tuple[NDArray[np.int64], int]:
        """The prediction at each input without noise, and the number of classes.

        Raises:
            CertificationError: The model returns NaN, or not one row of logits per input.
        """
        labels, classes = [np.zeros(0, dtype=np.int64)], 0
        for start in range(0, len(self.x), self.rows):
            logits = self._logits(self.x[start : start + self.rows])
            classes = logits.shape[1]
            label = logits.argmax(dim=1).masked_fill(logits.isnan().any(dim=1), -1).cpu().numpy()
            if (label < 0).any():
                self._refuse(start + int(np.flatnonzero(label < 0)[0]), "")
            labels.append(label)
        return np.concatenate(labels), classes

    def count(self, pieces: Sequence[Piece], source: DrawSource) -> NDArray[np.int64]:
        """Votes per piece and class, from one forward pass.

        Args:
            pieces: Draws, at most ``rows`` in total.
            source: Where the draws come from.

        Returns:
            Counts, shape ``pieces classes``.

        Raises:
            CertificationError: The model returns NaN.
        """
        sizes = torch.tensor([piece.count for piece in pieces])
        device = self.x.device
        owner = torch.arange(len(pieces)).repeat_interleave(sizes).to(device)
        inputs = torch.tensor([piece.row for piece in pieces]).to(device)[owner]
        noisy = torch.empty((len(owner), *self.x.shape[1:]), dtype=self.x.dtype, device=device)
        source.fill(noisy, pieces)
        noisy.mul_(self.sigma).add_(self.x[inputs])
        logits = self._logits(noisy)
        # A column of its own collects rows with NaN, so that one transfer brings everything.
        columns = logits.shape[1] + 1
        label = logits.argmax(dim=1).masked_fill(logits.isnan().any(dim=1), columns - 1)
        counts = torch.zeros(len(pieces) * columns, dtype=torch.int64, device=device)
        counts.scatter_add_(0, owner * columns + label, torch.ones_like(label))
        votes = counts.view(-1, columns).cpu().numpy()
        if votes[:, -1].any():
            self._refuse(pieces[int(np.flatnonzero(votes[:, -1])[0])].row, " under noise")
        return votes[:, :-1]

    def count_all(self, n: int, source: DrawSource) -> NDArray[np.int64]:
        """Votes of every input from its first ``n`` draws, shape ``inputs classes``."""
        votes = np.zeros((len(self.x), 1), dtype=np.int64)
        wanted = (Piece(row, 0, n) for row in range(len(self.x)))
        for pieces in packed(wanted, self.rows):
            counts = self.count(pieces, source)
            if votes.shape[1] != counts.shape[1]:
                votes = np.zeros((len(self.x), counts.shape[1]), dtype=np.int64)
            np.add.at(votes, [piece.row for piece in pieces], counts)
        return votes

    def _logits(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.model(x)
        if logits.dim() != 2 or len(logits) != len(x):
            raise CertificationError(
                f"the model returned shape {list(logits.shape)} for {len(x)} inputs; a classifier "
                "returns one row of logits per input"
            )
        return logits

    def _refuse(self, row: int, where: str) -> None:
        raise CertificationError(
            f"the model returned NaN for input {self.noise.ids[row]!r}{where}; votes of such a "
            "model prove nothing, so check its weights and precision"
        )


def packed(pieces: Iterable[Piece], batch_size: int) -> Iterator[list[Piece]]:
    """Cut draws into batches of at most ``batch_size``; only whole blocks are separated."""
    batch, room = list[Piece](), batch_size
    for piece in pieces:
        start, left = piece.start, piece.count
        while left:
            take = min(left, room - room % BLOCK)
            if not take:
                yield batch
                batch, room = [], batch_size
                continue
            batch.append(Piece(piece.row, start, take))
            start, left, room = start + take, left - take, room - take
    if batch:
        yield batch


__all__ = ["DrawSource", "Piece", "Voters", "packed"]
