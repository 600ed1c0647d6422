"""Yes/no certificates that stop drawing as soon as the votes settle them.

A selector asks whether the smoothed classifier is constant on a ball, not how large the ball is.
That question is decided by the group-sequential tables of :mod:`recuse.certify.tables`, at the
same error probability as CERTIFY and with a small fraction of its draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recuse.arrays import Images
from recuse.certify.bounds import check_alpha, check_sigma
from recuse.certify.decision import Plan, SequentialState, check_radii
from recuse.certify.smoothing import require_draws
from recuse.certify.tables import StoppingTable, make_table, needed_probability, operating_point
from recuse.certify.votes import DrawSource, Voters
from recuse.errors import CertificationError
from recuse.random import SampleNoise
from recuse.results import Certificate

_NEVER = np.iinfo(np.int64).max


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

    @property
    def norm(self) -> str:
        """Norm of the balls it certifies."""
        return "l2"

    @property
    def method(self) -> str:
        """Name of the kind of proof in records."""
        return "smoothing"

    def decide(
        self, model: nn.Module, x: Images, radii: Sequence[float], *, noise: SampleNoise
    ) -> Certificate:
        """Decide several radii at once, for example eps and 2 eps, or a grid to bracket a radius.

        A radius that no number of votes proves costs no draw.

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
        plan = make_plan(self, check_radii(radii), max(classes, 1))
        run = SequentialState(plan, guess)
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
        require_draws(radius, self.sigma, self.alpha * self.guess_weight, self.n_max)

    def level(self, radii: Sequence[float], classes: int) -> float:
        """Exact bound on the probability of a false certificate, over all classes and radii.

        At most ``alpha``; the sum of the tables' exact levels at the least favourable radius.
        """
        tables = _tables(self, check_radii(radii), classes)
        return max(guess.level + (classes - 1) * other.level for guess, other in tables)

    def acceptance(self, radius: float, p: float, *, classes: int) -> float:
        """Lower bound on the probability that a class of vote probability ``p`` is certified.

        Exact for the class's own test, on the worse of both tables: whether the class is the
        clean prediction is the attacker's choice. Off comes the probability that the votes of all
        other classes together reach a threshold first, which bounds that any of them does.

        Args:
            radius: The radius that is decided, alone.
            p: Probability that one draw votes for the class, in (1/2, 1].
            classes: Number of classes.
        """
        guess, other = _tables(self, check_radii((radius,)), classes)[0]
        if not other.attainable:
            return 0.0
        # Beside the guess, a rival is any class; beside another class, it may be the guess.
        rivals = ((guess, other.accept), (other, tuple(map(min, guess.accept, other.accept))))
        chances = []
        for mine, accept in rivals:
            rival = replace(other, accept=accept, reject=(-1,) * len(accept))
            chances.append(operating_point(mine, p).claim - operating_point(rival, 1 - p).claim)
        return max(min(chances), 0.0)

    def largest_radius(self) -> float:
        """The radius that ``n_max`` agreeing votes prove."""
        p = (self.alpha * self.guess_weight) ** (1 / self.n_max)
        return self.sigma * float(torch.special.ndtri(torch.tensor(p, dtype=torch.float64)))

    def radius_grid(self, step: float) -> tuple[float, ...]:
        """Multiples of ``step`` within reach: deciding them all brackets the certified radius.

        Raises:
            CertificationError: ``step`` is not positive, or beyond the largest radius.
        """
        largest = self.largest_radius()
        if not 0 < step <= largest:
            raise CertificationError(
                f"radius step {step:g} must be positive and at most {largest:g}, the largest "
                f"radius that {self.n_max} draws prove at sigma {self.sigma:g}"
            )
        return tuple(round(k * step, 10) for k in range(1, int(largest / step) + 1))


def make_plan(test: GroupSequential, radii: tuple[float, ...], classes: int) -> Plan:
    """Tables for the guess and the other classes at each radius, on one schedule of looks."""
    tables = _tables(test, radii, classes)
    looks = tables[0][0].looks
    return Plan(
        radii=radii,
        classes=classes,
        looks=np.array(looks, dtype=np.int64),
        accept=_thresholds([[table.accept for table in pair] for pair in tables], looks),
        reject=_thresholds([[table.reject for table in pair] for pair in tables], looks),
        attainable=np.array([[t.attainable for t in pair] for pair in tables]),
    )


def _tables(
    test: GroupSequential, radii: tuple[float, ...], classes: int
) -> list[tuple[StoppingTable, StoppingTable]]:
    """The tables of the guess and of any other class, per radius, with the same looks."""
    others = max(classes - 1, 1)
    guess, other = test.alpha * test.guess_weight, test.alpha * (1 - test.guess_weight) / others
    looks = _table(test, radii[0], guess, None).looks
    return [
        (_table(test, radius, guess, looks), _table(test, radius, other, looks)) for radius in radii
    ]


def _table(
    test: GroupSequential, radius: float, level: float, looks: tuple[int, ...] | None
) -> StoppingTable:
    p0 = needed_probability(radius, test.sigma)
    if level <= 0 or looks == ():
        return StoppingTable(p0, level, (), (), (), 0.0)
    return make_table(p0, level, test.n_max, beta=test.beta, growth=test.growth, looks=looks)


def _thresholds(rows: list[list[tuple[int, ...]]], looks: tuple[int, ...]) -> NDArray[np.int64]:
    # An unattainable table has no thresholds: its tests are closed before the first draw.
    never = (_NEVER,) * len(looks)
    return np.array([[row or never for row in pair] for pair in rows], dtype=np.int64)


__all__ = ["GroupSequential", "make_plan"]
