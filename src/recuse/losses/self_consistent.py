"""SCORE: robust training with a distance between predictions instead of a divergence.

A self-consistent robust error: the optimum of the clean term is the data distribution, and the
second term asks for invariance only beyond a tolerance (``clip``).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from recuse.arrays import Labels, Logits, PerSample
from recuse.losses.standard import cross_entropy


def smooth_labels(
    y: Labels, classes: int, *, smoothing: float, dtype: torch.dtype = torch.float32
) -> Tensor:
    """One-hot labels mixed with the uniform distribution.

    Args:
        y: Class indices.
        classes: Number of classes K.
        smoothing: Share ``s`` of the uniform distribution, in [0, 1].
        dtype: Type of the result.

    Returns:
        ``(1 - s) onehot(y) + s / K``, shape ``batch classes``.

    Raises:
        ValueError: ``smoothing`` outside [0, 1].
    """
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label smoothing is {smoothing}; give a share between 0 and 1")
    onehot = functional.one_hot(y.long(), classes).to(dtype)
    return (1 - smoothing) * onehot + smoothing / classes


def squared_distance(logits: Logits, logits_adv: Logits) -> PerSample:
    """Squared Euclidean distance between two predictions, ``||p(x_adv) - p(x)||^2``."""
    return (logits_adv.softmax(dim=1) - logits.softmax(dim=1)).square().sum(dim=1)


def js_divergence(logits: Logits, logits_adv: Logits) -> PerSample:
    """Jensen-Shannon divergence between two predictions, in nats (at most log 2)."""
    log_p, log_q = functional.log_softmax(logits, dim=1), functional.log_softmax(logits_adv, dim=1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    p_side = (log_p.exp() * (log_p - log_m)).sum(dim=1)
    q_side = (log_q.exp() * (log_q - log_m)).sum(dim=1)
    return (p_side + q_side) / 2


def score(
    logits: Logits,
    logits_adv: Logits,
    y: Labels,
    *,
    beta: float = 3.0,
    clip: float = 0.0,
    smoothing: float = 0.0,
) -> PerSample:
    """Squared error to the labels plus squared movement of the prediction beyond a tolerance.

    Args:
        logits: Clean logits.
        logits_adv: Logits at a point that maximises the squared distance.
        y: Class indices.
        beta: Weight of the movement.
        clip: Movement that is tolerated (nothing is asked below it).
        smoothing: Label smoothing, in [0, 1].

    Returns:
        ``||p(x) - y~||^2 + beta * max(||p(x_adv) - p(x)||^2 - clip, 0)``.

    Source: Pang et al., ICML 2022.
    """
    target = smooth_labels(y, logits.shape[1], smoothing=smoothing, dtype=logits.dtype)
    natural = (logits.softmax(dim=1) - target).square().sum(dim=1)
    return natural + beta * (squared_distance(logits, logits_adv) - clip).clamp_min(0)


def score_js(
    logits: Logits,
    logits_adv: Logits,
    y: Labels,
    *,
    beta: float = 3.0,
    clip: float = 0.0,
    smoothing: float = 0.0,
) -> PerSample:
    """:func:`score` with Jensen-Shannon divergences in place of squared distances.

    Returns:
        ``JS(p(x), y~) + beta * max(JS(p(x), p(x_adv)) - clip, 0)``.

    Source: Pang et al., ICML 2022.
    """
    natural = _js_to_labels(logits, y, smoothing)
    return natural + beta * (js_divergence(logits, logits_adv) - clip).clamp_min(0)


def _js_to_labels(logits: Logits, y: Labels, smoothing: float) -> PerSample:
    if smoothing == 0:
        # Against a one-hot label: m_y = (p_y + 1)/2, m_c = p_c/2, so only p_y remains.
        log_p = -cross_entropy(logits, y)
        p = log_p.exp()
        label_side = math.log(2) - torch.log1p(p)
        model_side = p * (log_p - torch.log1p(p)) + math.log(2)
        return (label_side + model_side) / 2
    target = smooth_labels(y, logits.shape[1], smoothing=smoothing, dtype=logits.dtype)
    return js_divergence(logits, target.log())


__all__ = ["js_divergence", "score", "score_js", "smooth_labels", "squared_distance"]
