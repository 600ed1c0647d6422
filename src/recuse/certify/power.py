"""What finitely many votes promise of a stage that is deployed, and the certificate it takes.

A stage that answers where a test of its smoothed classifier accepts has been proven at x, but an
attacker of budget eps moves it to x'. With the class certified at x for a radius R > eps, its
vote probability at every x' of the ball is at least ``Phi((R - eps) / sigma)``, and there the test
accepts with a probability that its tables give exactly: its power. A certificate for ``2 eps``
promises no more than the null of a test of radius eps, which is accepted with probability alpha.
"""

import math
from functools import lru_cache
from typing import Protocol, runtime_checkable

from recuse.certify.ibp import Ibp
from recuse.certify.tables import needed_probability
from recuse.errors import CertificationError
from recuse.protocols import Certifier

# Of a deployed stage to miss an answer that it owes; as the usual level of a certificate.
BETA = 0.001
_STEP = 1e-4
_HALVINGS = 16
_MOST = 8.0  # standard deviations: Phi is 1 beyond


@runtime_checkable
class VotingCertifier(Certifier, Protocol):
    """A certifier that decides from finitely many votes under noise, and may miss what is true."""

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise."""
        ...

    @property
    def alpha(self) -> float:
        """Probability of a false certificate per input."""
        ...

    def __hash__(self) -> int:
        """Hash of its settings."""
        ...

    def require_attainable(self, radius: float) -> None:
        """Refuse a radius that no number of votes within the budget proves.

        Raises:
            CertificationError: Says how many draws are needed.
        """
        ...

    def acceptance(self, radius: float, p: float, *, classes: int) -> float:
        """Lower bound on the probability that a class of vote probability ``p`` is certified.

        Whatever the network answers without noise, which an attacker may choose.

        Args:
            radius: The radius that is decided, alone.
            p: Probability that one draw votes for the class, in (1/2, 1].
            classes: Number of classes.
        """
        ...


def needed_radius(
    certifier: Certifier,
    eps: float,
    *,
    classes: int,
    radius: float | None = None,
    beta: float = BETA,
) -> float | None:
    """The radius to certify at x so that a deployed stage surely answers within ``eps`` of x.

    A stage of selector radius rho needs ``rho + eps`` with interval bounds, which are never looser
    on a ball inside another. One that counts votes needs an R at which its test of radius rho
    accepts with probability at least ``1 - beta`` at every point of the ball. Linear bounds choose
    their lines ball by ball and may be looser on a smaller one: there nothing is enough.

    Args:
        certifier: The stage's.
        eps: The attacker's budget.
        classes: Number of classes.
        radius: The selector's radius rho; ``eps`` if not given.
        beta: Probability that the stage may miss the answer, in (0, 1).

    Returns:
        The radius (by voting rounded up to a multiple of 1e-4); None where no certificate is
        enough, as where the test misses even what all votes agree on.

    Raises:
        CertificationError: ``beta`` outside (0, 1).
    """
    if not 0 < beta < 1:
        raise CertificationError(f"beta is {beta}, but a probability to miss lies in (0, 1)")
    rho = eps if radius is None else radius
    if isinstance(certifier, VotingCertifier):
        return _voting_radius(certifier, eps, rho, classes, beta)
    return rho + eps if isinstance(certifier, Ibp) else None


@lru_cache(maxsize=256)
def _voting_radius(
    certifier: VotingCertifier, eps: float, rho: float, classes: int, beta: float
) -> float | None:
    def enough(steps: int) -> bool:
        p = needed_probability(steps * _STEP - eps, certifier.sigma)
        return certifier.acceptance(rho, p, classes=classes) >= 1 - beta

    low = math.floor((rho + eps) / _STEP)
    high = math.ceil((eps + _MOST * certifier.sigma) / _STEP)
    if high <= low or not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return round(high * _STEP, 4)


@lru_cache(maxsize=256)
def even_chance(certifier: VotingCertifier, radius: float, classes: int) -> float:
    """Vote probability from which a class is certified more often than not; 1 if no draws do."""
    low, high = needed_probability(radius, certifier.sigma), 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = certifier.acceptance(radius, middle, classes=classes) >= 0.5
        low, high = (low, middle) if enough else (middle, high)
    return high


__all__ = ["BETA", "VotingCertifier", "even_chance", "needed_radius"]
