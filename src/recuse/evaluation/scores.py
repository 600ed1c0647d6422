"""What attacks and bounds say of a network at each image: all that any threshold is counted by."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recuse.attacks import Apgd, Confidence, Dlr, Ensemble
from recuse.attacks.margins import margin
from recuse.certify.ibp import Ibp
from recuse.data.split import Split
from recuse.random import SampleNoise
from recuse.selectors import acceptance, entropy, max_softmax, selection_bounds
from recuse.threat import Threat

Columns = dict[str, Any]
# Which attack decides how sure of a wrong answer an attacker can make a network, by the ending of
# the column: the one made for it; the point of largest loss; the first adversarial point.
CONFIDENCE, PLAIN = "", ("_ce", "_first")


def clean_columns(network: nn.Module, part: Split) -> Columns:
    """Label, prediction and the scores that need no attack."""
    with torch.no_grad():
        logits = network(part.images)
    prediction = logits.argmax(1)
    return {
        "label": part.labels.numpy(),
        "prediction": prediction.numpy(),
        "accurate": (prediction == part.labels).numpy(),
        "confidence": max_softmax(logits).numpy(),
        "negative_entropy": (-entropy(logits)).numpy(),
        "margin": (-margin(logits.softmax(1), prediction)).numpy(),
    }


def attacked_columns(
    network: nn.Module,
    part: Split,
    radii: Sequence[str],
    steps: int,
    kinds: Sequence[str] = (CONFIDENCE,),
) -> Columns:
    """Clean columns and, per radius, the worst that attacks found in the ball or a smaller one.

    ``robust@R``: no other label than F(x). ``low_margin@R``, ``low_confidence@R``: smallest
    probability margin of F(x) and smallest top probability (at most 1/2 where the label
    changes). ``wrong_confidence@R``: largest probability of a class other than the true one, by
    the confidence attack; among ``kinds``, ``..._ce@R`` at the point of largest cross-entropy and
    ``..._first@R`` at the first adversarial point of Auto-PGD instead.
    """
    columns = clean_columns(network, part)
    found = {
        "robust": torch.ones(len(part), dtype=torch.bool),
        "low_margin": torch.from_numpy(columns["margin"]),
        "low_confidence": torch.from_numpy(columns["confidence"]),
    }
    wrong = {kind: torch.zeros(len(part)) for kind in kinds}
    prediction = torch.from_numpy(columns["prediction"])
    for radius in radii:
        threat = Threat("linf", radius)
        worse = _worst_of_prediction(network, part, prediction, threat, steps)
        found["robust"] = found["robust"] & (worse["low_margin"] > 0)
        for kind in ("low_margin", "low_confidence"):
            found[kind] = torch.minimum(found[kind], worse[kind])
        for kind, value in _wrong_confidence(network, part, threat, kinds, steps).items():
            wrong[kind] = torch.maximum(wrong[kind], value)
        columns |= {f"{kind}@{radius}": value.numpy() for kind, value in found.items()}
        columns |= {f"wrong_confidence{k}@{radius}": v.numpy() for k, v in wrong.items()}
    return columns


@torch.no_grad()
def _worst_of_prediction(
    network: nn.Module, part: Split, prediction: Tensor, threat: Threat, steps: int
) -> dict[str, Tensor]:
    x, noise = part.images, SampleNoise(0, part.ids, f"worst/{threat}")
    broken = Ensemble((Apgd(steps), Apgd(steps, Dlr())))(
        network, x, prediction, threat, noise=noise
    )
    deepest = Apgd(steps).maximise(network, x, prediction, threat, noise=noise).x_adv
    logits = [network(broken.x_adv), network(deepest)]
    low_margin = -torch.stack([margin(z.softmax(1), prediction) for z in logits]).amax(0)
    low_confidence = torch.stack([max_softmax(z) for z in logits]).amin(0)
    # On the way to another class the two best classes tie, with at most a half each.
    crossed = low_margin <= 0
    return {
        "low_margin": low_margin,
        "low_confidence": torch.where(crossed, low_confidence.clamp_max(0.5), low_confidence),
    }


@torch.no_grad()
def _wrong_confidence(
    network: nn.Module, part: Split, threat: Threat, kinds: Sequence[str], steps: int
) -> dict[str, Tensor]:
    x, y, noise = part.images, part.labels, SampleNoise(0, part.ids, f"wrong/{threat}")
    attacks: dict[str, Callable[..., Any]] = {
        "": Apgd(steps, Confidence()).maximise,
        "_ce": Apgd(steps).maximise,
        "_first": Apgd(steps),
    }
    points = {kind: attacks[kind](network, x, y, threat, noise=noise).x_adv for kind in kinds}
    return {kind: Confidence()(network(point), y) for kind, point in points.items()}


@torch.no_grad()
def core_columns(network: nn.Module, part: Split, radii: Sequence[str], steps: int) -> Columns:
    """Clean columns, robustness of the core and its smallest probability margin in the ball."""
    columns = clean_columns(network, part)
    robust = torch.ones(len(part), dtype=torch.bool)
    prediction = torch.from_numpy(columns["prediction"])
    lowest = torch.from_numpy(columns["margin"])
    for radius in radii:
        noise = SampleNoise(0, part.ids, f"core/{radius}")
        attack, threat = Ensemble((Apgd(steps), Apgd(steps, Dlr()))), Threat("linf", radius)
        robust = robust & ~attack(network, part.images, prediction, threat, noise=noise).success
        lowest = torch.minimum(lowest, _deepest(network, part, prediction, threat, steps))
        columns[f"robust@{radius}"] = robust.numpy()
        columns[f"low_margin@{radius}"] = torch.where(robust, lowest, lowest.clamp_max(0)).numpy()
    return columns


def _deepest(network: nn.Module, part: Split, labels: Tensor, threat: Threat, steps: int) -> Tensor:
    """Smallest probability margin that two attacks without an early stop find in the ball."""
    noise = SampleNoise(0, part.ids, f"deepest/{threat}")
    points = [
        attack.maximise(network, part.images, labels, threat, noise=noise).x_adv
        for attack in (Apgd(steps), Apgd(steps, Dlr()))
    ]
    return -torch.stack([margin(network(x).softmax(1), labels) for x in points]).amax(0)


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


def certified_columns(network: nn.Module, part: Split, radii: Sequence[str]) -> Columns:
    """Whether interval bounds prove the label, per radius."""
    sizes = [Threat("linf", radius).eps for radius in radii]
    found = Ibp().decide(network, part.images, sizes, noise=SampleNoise(0, part.ids))
    return {f"certified@{r}": found.certified[:, i].numpy() for i, r in enumerate(radii)}


@torch.no_grad()
def selection_columns(net: nn.Module, part: Split, radii: Sequence[str]) -> Columns:
    """A selection network's score and its interval bounds per radius."""
    columns = {"score": acceptance(net(part.images)).numpy()}
    for radius in radii:
        bounds = selection_bounds(net, part.images, Threat("linf", radius))
        columns[f"lower@{radius}"] = bounds.lower.numpy()
        columns[f"upper@{radius}"] = bounds.upper.numpy()
    return columns
