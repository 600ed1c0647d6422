"""Losses of smoothed classifiers: Gaussian augmentation, MACER, and CRA with its soft radius.

All take the logits of ``k`` noisy copies of each input, ``f(x + eta_j)`` with
``eta_j ~ N(0, sigma^2 I)``, of shape ``batch k classes``, and return one number per sample.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from recuse.arrays import Labels, PerSample
from recuse.losses.standard import cross_entropy, without_class

NoisyLogits = Float[Tensor, "batch k classes"]
NoiseLoss = Callable[[Tensor, Tensor], Tensor]
RadiusOf = Literal["prediction", "label"]

# How far probabilities are moved from 0 and 1, where the normal quantile is infinite.
CLAMP = 1e-6


def gaussian(noisy_logits: NoisyLogits, y: Labels) -> PerSample:
    """Cross-entropy under noise, averaged over the draws.

    Args:
        noisy_logits: Logits of the noisy copies.
        y: Class indices.

    Returns:
        ``mean_j CE(f(x + eta_j), y)``.

    Source: Cohen, Rosenfeld, Kolter, ICML 2019 (Eq. 10 of the ERA paper).

    >>> gaussian(torch.zeros(1, 3, 4), torch.tensor([2]))
    tensor([1.3863])
    """
    _check(noisy_logits, y)
    draws = noisy_logits.shape[1]
    each = cross_entropy(noisy_logits.flatten(0, 1), y.repeat_interleave(draws))
    return each.view(-1, draws).mean(dim=1)


def mean_logits_cross_entropy(noisy_logits: NoisyLogits, y: Labels) -> PerSample:
    """Cross-entropy of the logits averaged over the draws, as the original CRA code trains.

    Never larger than :func:`gaussian` (cross-entropy is convex in the logits).

    Returns:
        ``CE(mean_j f(x + eta_j), y)``.
    """
    _check(noisy_logits, y)
    return cross_entropy(noisy_logits.mean(dim=1), y)


def mean_probability_cross_entropy(noisy_logits: NoisyLogits, y: Labels) -> PerSample:
    """Negative log of the label's probability averaged over the draws: the soft smoothed net.

    Returns:
        ``-log mean_j p(x + eta_j)_y``.
    """
    _check(noisy_logits, y)
    log_p = functional.log_softmax(noisy_logits, dim=2)
    log_p_y = log_p.gather(2, _label_index(noisy_logits, y))[:, :, 0]
    draws = torch.tensor(noisy_logits.shape[1], dtype=log_p.dtype, device=log_p.device)
    return draws.log() - torch.logsumexp(log_p_y, dim=1)


def soft_radius(
    noisy_logits: NoisyLogits,
    *,
    sigma: float,
    gamma: float = 4.0,
    radius_of: RadiusOf = "prediction",
    y: Labels | None = None,
) -> PerSample:
    """Differentiable stand-in for the certified L2 radius of a smoothed classifier.

    With ``z = mean_j softmax(gamma f(x + eta_j))`` it is
    ``(sigma / 2) (Phi^-1(z_a) - Phi^-1(z_b))``.

    Args:
        noisy_logits: Logits of the noisy copies.
        sigma: Standard deviation of the noise, in pixel units.
        gamma: Inverse temperature; larger is closer to counting votes.
        radius_of: ``"prediction"``: ``a`` is the best class and ``b`` the second (not negative, up
            to the 1e-6 that keeps ``z`` off 0 and 1). ``"label"``: ``a`` is ``y`` and ``b`` the
            best other class (negative where the smoothed net is wrong).
        y: Class indices, needed for ``"label"``.

    Returns:
        The radius per sample, in the unit of ``sigma``.

    Raises:
        ValueError: ``sigma`` or ``gamma`` not positive, fewer than two classes, an unknown
            ``radius_of``, or no ``y`` for ``"label"``.

    Source: Zhai et al., ICLR 2020 (Eq. 11 of the ERA paper).
    """
    return sigma / 2 * _quantile_gap(noisy_logits, sigma, gamma, radius_of, y)


def cra_penalty(
    noisy_logits: NoisyLogits,
    y: Labels,
    *,
    sigma: float,
    gamma: float = 4.0,
    radius_of: RadiusOf = "prediction",
) -> PerSample:
    """Certified radius of what the smoothed net gets wrong: the radius that CRA shrinks.

    Args:
        noisy_logits: Logits of the noisy copies.
        y: Class indices.
        sigma: Standard deviation of the noise, in pixel units.
        gamma: Inverse temperature of the soft radius.
        radius_of: See :func:`soft_radius`; ``"label"`` is Eq. 11 to the letter, which rewards
            pushing a wrong sample further wrong.

    Returns:
        ``(1 - mean_j p(x + eta_j)_y) * soft_radius``.

    Source: Eq. 9 of the ERA paper.
    """
    miss = -torch.expm1(-mean_probability_cross_entropy(noisy_logits, y))
    return miss * soft_radius(noisy_logits, sigma=sigma, gamma=gamma, radius_of=radius_of, y=y)


def cra(
    noisy_logits: NoisyLogits,
    y: Labels,
    *,
    sigma: float,
    beta: float = 1.0,
    gamma: float = 4.0,
    radius_of: RadiusOf = "prediction",
    noise_loss: NoiseLoss = gaussian,
) -> PerSample:
    """Certified-radius abstention: a loss under noise plus the radius of what is wrong.

    Args:
        noisy_logits: Logits of the noisy copies (the paper draws 16).
        y: Class indices.
        sigma: Standard deviation of the noise, in pixel units.
        beta: Weight of the noise loss; smaller abstains more.
        gamma: Inverse temperature of the soft radius.
        radius_of: See :func:`cra_penalty`.
        noise_loss: What keeps the net accurate, for example :func:`gaussian`.

    Returns:
        ``beta * noise_loss + cra_penalty``.

    Source: Eq. 9 of the ERA paper.
    """
    penalty = cra_penalty(noisy_logits, y, sigma=sigma, gamma=gamma, radius_of=radius_of)
    return beta * noise_loss(noisy_logits, y) + penalty


def macer(
    noisy_logits: NoisyLogits,
    y: Labels,
    *,
    sigma: float,
    weight: float = 12.0,
    margin: float = 8.0,
    gamma: float = 16.0,
) -> PerSample:
    """MACER: accuracy of the soft smoothed net, and a hinge that enlarges radii that are right.

    Args:
        noisy_logits: Logits of the noisy copies.
        y: Class indices.
        sigma: Standard deviation of the noise, in pixel units.
        weight: Weight ``lambda`` of the hinge.
        margin: Quantile gap beyond which a radius need not grow.
        gamma: Inverse temperature of the soft radius.

    Returns:
        ``-log mean_j p(x + eta_j)_y + weight * (sigma / 2) * max(margin - xi, 0)``, the hinge
        only where the best class of ``z`` is ``y``; ``xi`` is the quantile gap of
        :func:`soft_radius`.

    Source: Zhai et al., ICLR 2020.
    """
    xi = _quantile_gap(noisy_logits, sigma, gamma, "prediction", None)
    with torch.no_grad():
        right = (gamma * noisy_logits).softmax(dim=2).mean(dim=1).argmax(dim=1) == y
    hinge = (margin - xi).clamp_min(0) * right.to(xi.dtype)
    return mean_probability_cross_entropy(noisy_logits, y) + weight * sigma / 2 * hinge


def _quantile_gap(
    noisy_logits: Tensor, sigma: float, gamma: float, radius_of: str, y: Tensor | None
) -> Tensor:
    if not (sigma > 0 and gamma > 0):
        raise ValueError(f"sigma = {sigma} and gamma = {gamma} must both be positive")
    if noisy_logits.shape[2] < 2:
        raise ValueError("a model with one class has no other class, so no certified radius")
    z = (gamma * noisy_logits).softmax(dim=2).mean(dim=1)
    if radius_of == "prediction":
        first, second = z.topk(2, dim=1).values.unbind(dim=1)
    elif radius_of == "label" and y is not None:
        _check(noisy_logits, y)
        first = z.gather(1, y.long()[:, None])[:, 0]
        second = without_class(z, y).amax(dim=1)
    else:
        raise ValueError(
            f"radius_of is {radius_of!r}; write 'prediction', or 'label' together with y"
        )
    # Both are moved towards each other, as in the original code: a plain clamp would cut the
    # gradient of exactly the most confident inputs. The clamp is for a label nobody voted for.
    low = (first - CLAMP).clamp_min(CLAMP)
    high = (second + CLAMP).clamp_max(1 - CLAMP)
    gap: Tensor = torch.special.ndtri(low) - torch.special.ndtri(high)
    return gap


def _label_index(noisy_logits: Tensor, y: Tensor) -> Tensor:
    return y.long()[:, None, None].expand(-1, noisy_logits.shape[1], 1)


def _check(noisy_logits: Tensor, y: Tensor) -> None:
    if noisy_logits.dim() != 3 or noisy_logits.shape[1] == 0 or y.shape != noisy_logits.shape[:1]:
        raise ValueError(
            f"noisy logits of shape {tuple(noisy_logits.shape)} with {y.numel()} labels; give "
            "batch x k x classes with k >= 1 and one label per input"
        )


__all__ = [
    "cra",
    "cra_penalty",
    "gaussian",
    "macer",
    "mean_logits_cross_entropy",
    "mean_probability_cross_entropy",
    "soft_radius",
]
