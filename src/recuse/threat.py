"""The threat model: the set of perturbed inputs an adversary may choose from.

``Threat`` is a value that owns its geometry, so an attack never asks which norm it is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import get_args

import torch
from torch import Tensor

from recuse.arrays import Images, Mask, PerSample
from recuse.errors import ConfigError
from recuse.radius import Norm, format_radius, parse_norm, parse_radius
from recuse.random import SampleNoise

_TINY = 1e-12
_HALF_STEP = 2.0**-25  # of float32 below 1


def per_sample_l2(v: Tensor) -> PerSample:
    """Euclidean norm of each row of a batch, over all other dimensions."""
    # Summed in a tree: torch's own norm adds up one by one, which is off by 1e-4 on large images.
    # Over the dimensions as they lie in memory: flattening copies channels-last images.
    return v.square().sum(dim=tuple(range(1, v.dim()))).sqrt()


def expand_as(scalars: Tensor, images: Tensor) -> Tensor:
    """View one number per sample so that it broadcasts over ``images``."""
    return scalars.view(-1, *([1] * (images.dim() - 1)))


@dataclass(frozen=True, init=False)
class Threat:
    """The ball B_eps(x) = {x' in [0, 1]^d : ||x' - x||_p <= eps}.

    Attributes:
        norm: ``"linf"`` or ``"l2"``.
        eps: Radius in pixel units (images in [0, 1]); for ``linf`` at most 1.

    >>> str(Threat("linf", "1/255").doubled())
    'linf:2/255'
    """

    norm: str
    eps: float

    def __init__(self, norm: str, eps: str | float | Fraction) -> None:
        object.__setattr__(self, "norm", parse_norm(norm))
        object.__setattr__(self, "eps", parse_radius(eps))
        if self.norm == "linf" and self.eps > 1:
            raise ConfigError(
                f"eps {eps!r} is larger than 1, the whole range of a pixel; images are in [0, 1], "
                "so 8 steps of 255 are written 8/255"
            )

    @classmethod
    def parse(cls, text: str) -> "Threat":
        """Read ``"linf:2/255"`` or ``"l2:0.25"``.

        Raises:
            ConfigError: No norm, an unknown norm, no radius, or one that is none.
        """
        norm, colon, eps = text.partition(":")
        if norm.strip().lower() in get_args(Norm) and not eps.strip():
            raise ConfigError(
                f"threat {text!r} has no radius; write norm:eps, for example linf:2/255"
            )
        if not colon:
            raise ConfigError(
                f"threat {text!r} has no norm; write norm:eps, for example "
                f"{f'linf:{text}' if text.isprintable() and text else 'linf:2/255'}"
            )
        return cls(norm, eps)

    def __str__(self) -> str:
        return f"{self.norm}:{self.radius}"

    @property
    def radius(self) -> str:
        """The radius as canonical text, for example ``"2/255"``."""
        return format_radius(self.eps)

    def doubled(self) -> "Threat":
        """The ball of radius 2 eps, which robust selection needs."""
        return self.scaled(2.0)

    def scaled(self, factor: float) -> "Threat":
        """The ball of ``factor`` times the radius (capped at 1 for ``linf``)."""
        eps = self.eps * factor
        return self.with_eps(min(eps, 1.0) if self.norm == "linf" else eps)

    def with_eps(self, eps: str | float | Fraction) -> "Threat":
        """The same norm with another radius."""
        return Threat(self.norm, eps)

    def distance(self, a: Images, b: Images) -> PerSample:
        """Distance between corresponding rows, in this norm."""
        delta = a - b
        return delta.flatten(1).abs().amax(dim=1) if self.norm == "linf" else per_sample_l2(delta)

    def contains(self, x_adv: Images, x: Images, *, tolerance: float = 1e-6) -> Mask:
        """Whether each ``x_adv`` lies in [0, 1] and within ``eps`` of ``x``.

        ``tolerance`` absorbs float32 rounding of ``x + delta``. For l2 it grows with the radius,
        and by half a step of float32 in every pixel.
        """
        flat = x_adv.flatten(1)
        inside = (flat.amin(dim=1) >= 0) & (flat.amax(dim=1) <= 1)
        slack = tolerance
        if self.norm == "l2":
            slack += tolerance * self.eps + _HALF_STEP * math.sqrt(flat.shape[1])
        return inside & (self.distance(x_adv, x) <= self.eps + slack)

    def project(self, x_adv: Images, x: Images) -> Images:
        """Bring ``x_adv`` into the ball around ``x`` and into [0, 1].

        Projects on the norm ball, then clips to [0, 1]; since ``x`` is in [0, 1] the clip only
        shortens the perturbation. For linf this is the nearest point of the intersection.
        """
        if self.norm == "linf":
            return torch.minimum(torch.maximum(x_adv, x - self.eps), x + self.eps).clamp_(0, 1)
        delta = x_adv - x
        shrink = (self.eps / per_sample_l2(delta).clamp_min(_TINY)).clamp_max(1.0)
        return (x + delta * expand_as(shrink, delta)).clamp_(0, 1)

    def projector(self, x: Images) -> Callable[[Tensor], Tensor]:
        """:meth:`project` around a fixed ``x``, for loops: it overwrites its argument.

        What depends on ``x`` alone is computed once.
        """
        if self.norm == "linf":
            low, high = (x - self.eps).clamp_(0, 1), (x + self.eps).clamp_(0, 1)
            return lambda points: points.clamp_(low, high)

        def project_l2(points: Tensor) -> Tensor:
            delta = points.sub_(x)
            shrink = (self.eps / per_sample_l2(delta).clamp_min(_TINY)).clamp_max(1.0)
            return delta.mul_(expand_as(shrink, delta)).add_(x).clamp_(0, 1)

        return project_l2

    def ascent_direction(self, grad: Images) -> Images:
        """The unit-length step that increases a loss with gradient ``grad`` the most, a new tensor.

        Sign for linf; gradient over its norm for l2 (0 where the gradient vanishes).
        """
        if self.norm == "linf":
            return grad.sign()
        return grad / expand_as(per_sample_l2(grad).clamp_min(_TINY), grad)

    def dual_norm(self, grad: Images) -> PerSample:
        """How much a step of length 1 along :meth:`ascent_direction` increases the loss."""
        return grad.flatten(1).abs().sum(dim=1) if self.norm == "linf" else per_sample_l2(grad)

    def random_start(self, x: Images, noise: SampleNoise) -> Images:
        """A uniformly random point of the ball, clipped to [0, 1]."""
        if self.norm == "linf":
            return (x + self.eps * (2 * noise.uniform(x) - 1)).clamp_(0, 1)
        direction = noise.normal(x)
        direction = direction / expand_as(per_sample_l2(direction).clamp_min(_TINY), direction)
        dimension = direction[0].numel() if len(direction) else 1
        length = noise.substream("length").uniform(x.flatten(1)[:, :1])[:, 0] ** (1 / dimension)
        return (x + self.eps * direction * expand_as(length, direction)).clamp_(0, 1)


__all__ = ["Threat", "expand_as", "per_sample_l2"]
