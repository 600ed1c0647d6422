"""Yes/no certificates that stop drawing as soon as the votes settle them.

A selector asks whether the smoothed classifier is constant on a ball, not how large the ball is.
That question is decided by the group-sequential tables of :mod:`recuse.certify.tables`, at the
same error probability as CERTIFY and with a small fraction of its draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor, nn

from recuse.arrays import Counts, Images, Labels, PerSample
from recuse.certify.bounds import check_alpha, check_sigma
from recuse.certify.smoothing import require_l2
from recuse.certify.tables import Table, draws_needed, make_table, needed_probability
from recuse.certify.votes import DrawSource, Piece, Voters, packed
from recuse.errors import CertificationError
from recuse.random import SampleNoise
from recuse.results import Certificate, Status
from recuse.threat import Threat

OPEN, CLAIMED, GIVEN_UP = 0, 1, -1
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class JointCertificate:
    """Decisions at several radii, from one stream of draws per input.

    Attributes:
        radii: Ascending radii in pixel units.
        certified: The smoothed classifier provably keeps ``prediction`` on each ball; certified
            at one radius implies certified at the smaller ones.
        attainable: Whether the sample budget can prove each radius at all.
        prediction: The certified class, else the class with most votes (the model's own
            prediction where nothing was drawn).
        samples: Noisy forward passes spent.
    """

    radii: tuple[float, ...]
    certified: Bool[Tensor, "batch radii"]
    attainable: tuple[bool, ...]
    prediction: Labels
    samples: Counts

    @property
    def radius(self) -> PerSample:
        """The largest certified radius, 0 where there is none."""
        steps = torch.tensor((0.0, *self.radii), dtype=torch.float64, device=self.certified.device)
        largest: PerSample = steps[self.certified.sum(dim=1)]
        return largest

    def at(self, radius: float) -> Certificate:
        """The certificate of one of the radii.

        Raises:
            ValueError: A radius that was not asked for.
        """
        column = self.radii.index(radius)
        yes = self.certified[:, column]
        no = Status.ABSTAINED if self.attainable[column] else Status.UNATTAINABLE
        status = tuple(Status.CERTIFIED if ok else no for ok in yes.tolist())
        return Certificate(status, self.prediction, yes.double() * radius, self.samples)


@dataclass(frozen=True)
class GroupSequential:
    """Group-sequential certified decisions for a Gaussian-smoothed classifier, in L2.

    Each class is tested on its own share of alpha, the model's clean prediction on most of it,
    so no draws are spent on choosing a candidate. Several radii share one stream of draws and
    the whole of alpha: a radius counts only where every smaller one is certified too, so the
    first false claim among them is made with probability at most alpha.

    Attributes:
        sigma: Standard deviation of the noise, in pixel units.
        n_max: Most draws per input.
        alpha: Probability of a false certificate per input, over all classes and radii.
        beta: Probability of giving up on an input that ``n_max`` draws would certify nine times
            in ten.
        growth: Ratio of consecutive looks; smaller looks more often.
        guess_weight: Share of alpha for the clean prediction; the other classes share the rest.
        batch_size: Most rows per forward pass; None suits the device. It changes no result.

    Raises:
        CertificationError: A setting outside its range.
    """

    sigma: float
    n_max: int = 110_000
    alpha: float = 0.001
    beta: float = 0.03
    growth: float = 1.1
    guess_weight: float = 0.9
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_sigma(self.sigma)
        check_alpha(self.alpha)
        make_table(0.5, self.alpha, self.n_max, beta=self.beta, growth=self.growth)
        if not 0 < self.guess_weight <= 1:
            raise CertificationError(
                f"the clean prediction's share of alpha is {self.guess_weight}; it lies in (0, 1]"
            )

    def __call__(
        self, model: nn.Module, x: Images, threat: Threat, *, noise: SampleNoise
    ) -> Certificate:
        """Decide for a batch whether the smoothed classifier is constant on the threat's ball.

        UNATTAINABLE costs no draw.

        Raises:
            CertificationError: A norm other than L2, or a model that cannot be certified.
        """
        require_l2(threat)
        return self.decide(model, x, (threat.eps,), noise=noise).at(threat.eps)

    def decide(
        self, model: nn.Module, x: Images, radii: Sequence[float], *, noise: SampleNoise
    ) -> JointCertificate:
        """Decide several radii at once, for example eps and 2 eps, or a grid to bracket a radius.

        Args:
            model: Classifier in eval mode; the guess and the votes come from this very network.
            x: Inputs in [0, 1].
            radii: Ascending radii in pixel units.
            noise: Keys the draws by (seed, id, draw), so that batching changes nothing.

        Returns:
            One decision per input and radius.

        Raises:
            CertificationError: Radii that do not ascend, a model in training mode or one that
                returns NaN.
        """
        voters = Voters(model, x, self.sigma, noise, self.batch_size)
        guess, classes = voters.clean()
        plan = make_plan(self, tuple(float(r) for r in radii), max(classes, 1))
        run = Run(plan, guess)
        source = DrawSource.of(noise)
        while pieces := run.wanted(voters.rows):
            rows = np.array([piece.row for piece in pieces])
            draws = np.array([piece.count for piece in pieces])
            run.add(rows, draws, voters.count(pieces, source))
        return run.result(x.device)

    def require_attainable(self, radius: float) -> None:
        """Refuse a radius that no number of votes within the budget proves.

        Raises:
            CertificationError: Says how many draws are needed.
        """
        needed = draws_needed(radius, self.sigma, self.alpha * self.guess_weight)
        if needed > self.n_max:
            raise CertificationError(
                f"radius {radius:g} at sigma {self.sigma:g} and alpha {self.alpha:g} needs at "
                f"least {needed} draws per input even if all agree, but n_max is {self.n_max}; "
                "raise n_max or sigma, or ask for a smaller radius"
            )

    def largest_radius(self) -> float:
        """The radius that ``n_max`` agreeing votes prove."""
        p = (self.alpha * self.guess_weight) ** (1 / self.n_max)
        return self.sigma * float(torch.special.ndtri(torch.tensor(p, dtype=torch.float64)))


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


def make_plan(test: GroupSequential, radii: tuple[float, ...], classes: int) -> Plan:
    """Tables for the guess and the other classes at each radius, on one schedule of looks.

    Raises:
        CertificationError: No radius, a negative one, or radii that do not ascend.
    """
    if not radii or radii[0] < 0 or any(a >= b for a, b in pairwise(radii)):
        raise CertificationError(f"radii {radii} must ascend and not be negative")
    others = max(classes - 1, 1)
    levels = (test.alpha * test.guess_weight, test.alpha * (1 - test.guess_weight) / others)
    first = _table(test, radii[0], levels[0], None)
    looks = first.looks
    tables = [[_table(test, radius, level, looks) for level in levels] for radius in radii]
    return Plan(
        radii=radii,
        classes=classes,
        looks=np.array(looks, dtype=np.int64),
        accept=np.array([[_padded(t.accept, looks, _NEVER) for t in pair] for pair in tables]),
        reject=np.array([[_padded(t.reject, looks, _NEVER) for t in pair] for pair in tables]),
        attainable=np.array([[t.attainable for t in pair] for pair in tables]),
    )


def _table(
    test: GroupSequential, radius: float, level: float, looks: tuple[int, ...] | None
) -> Table:
    p0 = needed_probability(radius, test.sigma)
    if level <= 0 or looks == ():
        return Table(p0, level, (), (), (), 0.0)
    return make_table(p0, level, test.n_max, beta=test.beta, growth=test.growth, looks=looks)


def _padded(thresholds: tuple[int, ...], looks: tuple[int, ...], filler: int) -> tuple[int, ...]:
    return thresholds or (filler,) * len(looks)


class Run:
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

    def result(self, device: torch.device) -> JointCertificate:
        """What has been decided."""
        claimed = self.state == CLAIMED
        leader = np.where(self.drawn > 0, (2 * self.votes - self.kind).argmax(axis=1), self.guess)
        prediction = np.where(claimed[:, 0].any(axis=1), claimed[:, 0].argmax(axis=1), leader)
        return JointCertificate(
            radii=self.plan.radii,
            certified=torch.from_numpy(claimed.any(axis=2)).to(device),
            attainable=tuple(bool(kinds.any()) for kinds in self.plan.attainable),
            prediction=torch.from_numpy(prediction).to(device),
            samples=torch.from_numpy(self.drawn).to(device),
        )


__all__ = ["GroupSequential", "JointCertificate"]
