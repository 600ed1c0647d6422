"""Randomized smoothing with a fixed number of draws: Cohen's PREDICT and CERTIFY.

The smoothed classifier is ``G(x) = argmax_c P(F(x + eta) = c)``, ``eta ~ N(0, sigma^2 I)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import nn

from recuse.arrays import Images
from recuse.certify.bounds import certified_radius, check_alpha, check_sigma
from recuse.certify.decision import check_radii
from recuse.certify.tables import draws_needed, needed_probability
from recuse.certify.votes import DrawSource, Voters
from recuse.errors import CertificationError
from recuse.random import SampleNoise
from recuse.results import Certificate


@dataclass(frozen=True)
class Cohen:
    """CERTIFY and PREDICT: the certified L2 radius from a fixed number of noisy votes.

    Attributes:
        sigma: Standard deviation of the noise, in pixel units.
        n: Draws that estimate the probability of the candidate class.
        n0: Draws, of their own, that choose the candidate.
        alpha: Failure probability per input.
        batch_size: Most rows per forward pass; None suits the device. It changes no result.

    Raises:
        CertificationError: A setting outside its range, or too few draws for any certificate.

    Source: Cohen, Rosenfeld, Kolter, ICML 2019, Algorithm 1.
    """

    sigma: float
    n: int = 100_000
    n0: int = 100
    alpha: float = 0.001
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_sigma(self.sigma)
        check_alpha(self.alpha)
        needed = draws_needed(0.0, self.sigma, self.alpha)
        if self.n < needed or self.n0 < 1:
            raise CertificationError(
                f"n = {self.n} (and n0 = {self.n0}) draws prove nothing at alpha = {self.alpha}; "
                f"at least {needed} (and 1) are needed"
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
        """Certify a batch at several radii, all from the one radius that the votes prove.

        That radius is the certificate's ``bound``; it holds with probability ``1 - alpha`` per
        input.

        Args:
            model: Classifier in eval mode.
            x: Inputs in [0, 1].
            radii: Ascending radii in pixel units.
            noise: Keys the draws.

        Returns:
            One decision per input and radius.

        Raises:
            CertificationError: Radii that do not ascend, a model in training mode or one that
                returns NaN.
        """
        radii = check_radii(radii)
        voters = Voters(model, x, self.sigma, noise, self.batch_size)
        candidate = self._votes(voters, "select", self.n0).argmax(axis=1)
        votes = self._votes(voters, "estimate", self.n)
        mine = torch.from_numpy(votes[np.arange(len(votes)), candidate])
        bound = certified_radius(mine, self.n, alpha=self.alpha, sigma=self.sigma).to(x.device)
        steps = torch.tensor(radii, dtype=torch.float64, device=x.device)
        return Certificate(
            radii=radii,
            certified=(bound > 0)[:, None] & (bound[:, None] >= steps),
            attainable=tuple(draws_needed(r, self.sigma, self.alpha) <= self.n for r in radii),
            prediction=torch.from_numpy(candidate).to(x.device),
            samples=torch.full((len(x),), self.n + self.n0, dtype=torch.int64, device=x.device),
            bound=bound,
        )

    def require_attainable(self, radius: float) -> None:
        """Refuse a radius that ``n`` agreeing votes do not prove.

        Raises:
            CertificationError: Says how many draws are needed.
        """
        require_draws(radius, self.sigma, self.alpha, self.n)

    def acceptance(self, radius: float, p: float, *, classes: int) -> float:
        """Lower bound on the probability that a class of vote probability ``p`` is certified.

        It is certified if it has most of the ``n0`` votes and enough of the ``n``.

        Args:
            radius: The radius that is decided.
            p: Probability that one draw votes for the class, in (1/2, 1].
            classes: Number of classes; it plays no part.
        """
        p0 = needed_probability(radius, self.sigma)
        # The fewest votes whose lower confidence bound reaches p0.
        fewest = int(scipy.stats.binom.isf(self.alpha, self.n, p0)) + 1
        if fewest > self.n:
            return 0.0
        chosen = scipy.stats.binom.sf(self.n0 // 2, self.n0, p)
        return float(chosen * scipy.stats.binom.sf(fewest - 1, self.n, p))

    def predict(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> Certificate:
        """The smoothed classifier's class where the votes settle it, without a radius.

        The top class must beat the runner-up in a two-sided binomial test at ``alpha``; the
        answer then differs from G(x) with probability at most ``alpha``.

        Returns:
            Certified, at radius 0, or not.

        Raises:
            CertificationError: The model is in training mode or returns NaN.
        """
        voters = Voters(model, x, self.sigma, noise, self.batch_size)
        votes = self._votes(voters, "estimate", self.n)
        first, second = -np.sort(-np.pad(votes, ((0, 0), (0, 1))), axis=1)[:, :2].T
        # P(|X - n/2| >= first - n/2) for X ~ Bin(n, 1/2) is twice the upper tail.
        p_value = np.minimum(2 * scipy.stats.binom.sf(first - 1, first + second, 0.5), 1.0)
        return Certificate(
            radii=(0.0,),
            certified=torch.from_numpy(p_value <= self.alpha)[:, None].to(x.device),
            attainable=(True,),
            prediction=torch.from_numpy(votes.argmax(axis=1)).to(x.device),
            samples=torch.full((len(x),), self.n, dtype=torch.int64, device=x.device),
        )

    def _votes(self, voters: Voters, stream: str, n: int) -> NDArray[np.int64]:
        return voters.count_all(n, DrawSource.of(voters.noise.substream(stream)))


def require_draws(radius: float, sigma: float, alpha: float, n: int) -> None:
    """Refuse a radius that ``n`` agreeing votes do not prove at level ``alpha``.

    Raises:
        CertificationError: Says how many draws are needed.
    """
    needed = draws_needed(radius, sigma, alpha)
    if needed > n:
        raise CertificationError(
            f"radius {radius:g} at sigma {sigma:g} and level {alpha:g} needs at least {needed:,} "
            f"draws per input even if all agree, but only {n:,} are allowed; allow more, raise "
            "sigma, or ask for a smaller radius"
        )


__all__ = ["Cohen", "require_draws"]
