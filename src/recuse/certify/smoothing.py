"""Randomized smoothing with a fixed number of draws: Cohen's PREDICT and CERTIFY.

The smoothed classifier is ``G(x) = argmax_c P(F(x + eta) = c)``, ``eta ~ N(0, sigma^2 I)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from recuse.arrays import Images
from recuse.certify.bounds import certified_radius, check_alpha, check_sigma
from recuse.certify.decision import JointCertificate, check_radii
from recuse.certify.tables import draws_needed, needed_probability
from recuse.certify.votes import DrawSource, Voters
from recuse.errors import CertificationError
from recuse.random import SampleNoise
from recuse.results import Certificate, Status
from recuse.threat import Threat


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

    def __call__(
        self, model: nn.Module, x: Images, threat: Threat, *, noise: SampleNoise
    ) -> Certificate:
        """Certify a batch at the threat's radius: CERTIFIED where the radius reaches it.

        Raises:
            CertificationError: A norm other than L2, or a model that cannot be certified.
        """
        require_l2(threat)
        return self.decide(model, x, (threat.eps,), noise=noise).at(threat.eps)

    def decide(
        self, model: nn.Module, x: Images, radii: Sequence[float], *, noise: SampleNoise
    ) -> JointCertificate:
        """Certify a batch at several radii, all from its one certified radius.

        Raises:
            CertificationError: Radii that do not ascend, or a model that cannot be certified.
        """
        radii = check_radii(radii)
        found = self.certify(model, x, noise=noise)
        proven = torch.tensor(
            [s is Status.CERTIFIED for s in found.status], dtype=torch.bool, device=x.device
        )
        steps = torch.tensor(radii, dtype=torch.float64, device=x.device)
        return JointCertificate(
            radii=radii,
            certified=proven[:, None] & (found.radius[:, None] >= steps),
            attainable=tuple(draws_needed(r, self.sigma, self.alpha) <= self.n for r in radii),
            prediction=found.prediction,
            samples=found.samples,
            bound=found.radius,
        )

    def certify(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> Certificate:
        """The largest radius that the votes prove, with probability ``1 - alpha`` per input.

        Args:
            model: Classifier in eval mode.
            x: Inputs in [0, 1].
            noise: Keys the draws.

        Returns:
            CERTIFIED with a radius, or ABSTAINED with radius 0.

        Raises:
            CertificationError: The model is in training mode or returns NaN.
        """
        voters = Voters(model, x, self.sigma, noise, self.batch_size)
        candidate = self._votes(voters, "select", self.n0).argmax(axis=1)
        votes = self._votes(voters, "estimate", self.n)
        mine = torch.from_numpy(votes[np.arange(len(votes)), candidate])
        radius = certified_radius(mine, self.n, alpha=self.alpha, sigma=self.sigma)
        status = tuple(Status.CERTIFIED if r > 0 else Status.ABSTAINED for r in radius.tolist())
        return _certificate(status, candidate, radius.numpy(), self.n + self.n0, x.device)

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
        fewest = int(stats.binom.isf(self.alpha, self.n, p0)) + 1
        if fewest > self.n:
            return 0.0
        chosen = stats.binom.sf(self.n0 // 2, self.n0, p)
        return float(chosen * stats.binom.sf(fewest - 1, self.n, p))

    def predict(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> Certificate:
        """The smoothed classifier's class where the votes settle it, without a radius.

        The top class must beat the runner-up in a two-sided binomial test at ``alpha``; the
        answer then differs from G(x) with probability at most ``alpha``.

        Returns:
            CERTIFIED (at radius 0) or ABSTAINED.

        Raises:
            CertificationError: The model is in training mode or returns NaN.
        """
        voters = Voters(model, x, self.sigma, noise, self.batch_size)
        votes = self._votes(voters, "estimate", self.n)
        first, second = -np.sort(-np.pad(votes, ((0, 0), (0, 1))), axis=1)[:, :2].T
        # P(|X - n/2| >= first - n/2) for X ~ Bin(n, 1/2) is twice the upper tail.
        p_value = np.minimum(2 * stats.binom.sf(first - 1, first + second, 0.5), 1.0)
        status = tuple(
            Status.CERTIFIED if p <= self.alpha else Status.ABSTAINED for p in p_value.tolist()
        )
        return _certificate(status, votes.argmax(axis=1), np.zeros(len(votes)), self.n, x.device)

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


def require_l2(threat: Threat) -> None:
    """Refuse a threat that Gaussian smoothing says nothing about.

    Raises:
        CertificationError: A norm other than L2.
    """
    if threat.norm != "l2":
        raise CertificationError(
            f"Gaussian smoothing certifies L2 balls, not {threat}; write for example l2:0.12, or "
            "use interval bounds for linf"
        )


def _certificate(
    status: tuple[Status, ...],
    prediction: NDArray[np.int64],
    radius: NDArray[np.float64],
    samples: int,
    device: torch.device,
) -> Certificate:
    return Certificate(
        status=status,
        prediction=torch.from_numpy(prediction).to(device),
        radius=torch.from_numpy(radius).to(device),
        samples=torch.full((len(status),), samples, dtype=torch.int64, device=device),
    )


__all__ = ["Cohen", "require_draws", "require_l2"]
