"""What a comparison of ways to abstain measures beside records."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from recuse.attacks import Apgd, Confidence
from recuse.data.split import Split
from recuse.random import SampleNoise
from recuse.selectors import max_softmax
from recuse.threat import Threat

Columns = dict[str, Any]


@torch.no_grad()
def mixture_columns(
    robust: nn.Module, standard: nn.Module, part: Split, shares: Sequence[float]
) -> Columns:
    """Whether each mixture of two networks' probabilities is right, by the robust one's weight."""
    p, q = (network(part.images).softmax(1) for network in (robust, standard))
    return {
        f"accurate@{share:g}": ((share * p + (1 - share) * q).argmax(1) == part.labels).numpy()
        for share in shares
    }


@torch.no_grad()
def confident_columns(network: nn.Module, part: Split, radii: Sequence[str], steps: int) -> Columns:
    """How sure of a wrong answer attacks of three kinds make a network, at each radius.

    ``wrong_confidence@R``: largest probability of a class other than the true one by the attack
    made for it; ``..._ce@R`` at the point of largest cross-entropy, ``..._first@R`` at the first
    adversarial point of Auto-PGD, which is what a plain evaluation reports.
    """
    x, y = part.images, part.labels
    logits = network(x)
    columns: Columns = {
        "accurate": (logits.argmax(1) == y).numpy(),
        "confidence": max_softmax(logits).numpy(),
    }
    attacks: dict[str, Callable[..., Any]] = {
        "": Apgd(steps, Confidence()).maximise,
        "_ce": Apgd(steps).maximise,
        "_first": Apgd(steps),
    }
    worst = {kind: torch.zeros(len(part)) for kind in attacks}
    for radius in radii:
        threat = Threat("linf", radius)
        noise = SampleNoise(0, part.ids, f"wrong/{threat}")
        for kind, attack in attacks.items():
            found = Confidence()(network(attack(network, x, y, threat, noise=noise).x_adv), y)
            worst[kind] = torch.maximum(worst[kind], found)
            columns[f"wrong_confidence{kind}@{radius}"] = worst[kind].numpy()
    return columns


__all__ = ["confident_columns", "mixture_columns"]
