"""The state of a sequential certification: votes, open tests, and what they have decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from recuse.certify.votes import Piece, packed
from recuse.errors import CertificationError
from recuse.results import Certificate

OPEN, CLAIMED, GIVEN_UP = 0, 1, -1


def check_radii(radii: Sequence[float]) -> tuple[float, ...]:
    """The radii as floats.

    Raises:
        CertificationError: No radius, a negative one, or radii that do not ascend.
    """
    values = tuple(float(r) for r in radii)
    if not values or values[0] < 0 or any(a >= b for a, b in pairwise(values)):
        raise CertificationError(f"radii {values} must ascend and not be negative")
    return values


def check_batch_size(size: int) -> None:
    """Refuse a batch without a row.

    Raises:
        CertificationError: ``size`` below 1.
    """
    if size < 1:
        raise CertificationError(f"batch size is {size}; a forward pass needs at least one row")


@dataclass(frozen=True, eq=False)
class Plan:
    """The tables of every radius and kind of class (0: the guess, 1: any other), side by side.

    Attributes:
        radii: Ascending radii.
        classes: Number of classes.
        looks: Looks shared by all tables.
        accept: Claim thresholds, shape ``radii 2 looks``.
        reject: Give-up thresholds, same shape.
        attainable: Shape ``radii 2``.
    """

    radii: tuple[float, ...]
    classes: int
    looks: NDArray[np.int64]
    accept: NDArray[np.int64]
    reject: NDArray[np.int64]
    attainable: NDArray[np.bool_]


class SequentialState:
    """Votes and open tests of a batch of inputs while it is being certified."""

    def __init__(self, plan: Plan, guess: NDArray[np.int64]) -> None:
        rows = len(guess)
        self.plan, self.guess = plan, guess
        self.votes = np.zeros((rows, plan.classes), dtype=np.int64)
        self.drawn = np.zeros(rows, dtype=np.int64)
        self.look = np.zeros(rows, dtype=np.int64)
        self.kind = (np.arange(plan.classes) != guess[:, None]).astype(np.int64)
        attainable = np.moveaxis(plan.attainable[:, self.kind], 0, 1)
        self.state = np.where(attainable, OPEN, GIVEN_UP)
        self._settle(np.arange(rows))

    def undecided(self) -> NDArray[np.int64]:
        """Inputs with an open test."""
        return np.flatnonzero((self.state == OPEN).any(axis=(1, 2)))

    def missing(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draws that undecided inputs still need until their next look."""
        return self.plan.looks[self.look[rows]] - self.drawn[rows] if len(rows) else rows

    def wanted(self, batch_size: int) -> list[Piece]:
        """The next draws, at most one batch, inputs in order; empty when all is decided."""
        rows = self.undecided()[:batch_size]
        missing = self.missing(rows)
        todo = zip(rows.tolist(), self.drawn[rows].tolist(), missing.tolist(), strict=True)
        return next(packed((Piece(*piece) for piece in todo), batch_size), [])

    def add(
        self, rows: NDArray[np.int64], draws: NDArray[np.int64], votes: NDArray[np.int64]
    ) -> None:
        """Count the votes of further draws and judge the inputs that have come to a look.

        Args:
            rows: Different inputs.
            draws: Draws of each, not beyond its next look.
            votes: Votes of each per class.
        """
        self.votes[rows] += votes
        self.drawn[rows] += draws
        ready = rows[self.drawn[rows] == self.plan.looks[self.look[rows]]]
        self._judge(ready)
        self.look[ready] += 1

    def _judge(self, rows: NDArray[np.int64]) -> None:
        look, kind = self.look[rows, None, None], self.kind[rows, None, :]
        radius = np.arange(len(self.plan.radii))[None, :, None]
        votes, state = self.votes[rows, None, :], self.state[rows]
        claim = votes >= self.plan.accept[radius, kind, look]
        hopeless = votes <= self.plan.reject[radius, kind, look]
        decided = np.where(claim, CLAIMED, np.where(hopeless, GIVEN_UP, OPEN))
        self.state[rows] = np.where(state == OPEN, decided, state)
        self._settle(rows)

    def _settle(self, rows: NDArray[np.int64]) -> None:
        state = self.state[rows]
        # A radius counts only where every smaller one does.
        dead = np.logical_or.accumulate(state == GIVEN_UP, axis=1)
        # A claim proves a probability above one half, so no other class can make one.
        claims = state[:, 0] == CLAIMED
        best = np.where(claims, self.votes[rows], -1).argmax(axis=1)
        loser = claims.any(axis=1)[:, None] & (np.arange(state.shape[2]) != best[:, None])
        self.state[rows] = np.where(dead | loser[:, None, :], GIVEN_UP, state)

    def result(self, device: torch.device) -> Certificate:
        """What has been decided."""
        claimed = self.state == CLAIMED
        leader = np.where(self.drawn > 0, (2 * self.votes - self.kind).argmax(axis=1), self.guess)
        prediction = np.where(claimed[:, 0].any(axis=1), claimed[:, 0].argmax(axis=1), leader)
        return Certificate(
            radii=self.plan.radii,
            certified=torch.from_numpy(claimed.any(axis=2)).to(device),
            attainable=tuple(bool(kinds.any()) for kinds in self.plan.attainable),
            prediction=torch.from_numpy(prediction).to(device),
            samples=torch.from_numpy(self.drawn).to(device),
        )


__all__ = ["Plan", "SequentialState", "check_batch_size", "check_radii"]
