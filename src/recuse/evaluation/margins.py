"""The worst probabilities within each judged ball, as columns of a record."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Labels, Logits
from recuse.attacks import Margins, ProbabilityMargin, WorstCases
from recuse.data.split import Split
from recuse.random import SampleNoise
from recuse.records.schema import radius_column
from recuse.selectors import entropy
from recuse.threat import Threat


def margin_columns(
    model: nn.Module,
    x: Images,
    logits: Logits,
    batch: Split,
    *,
    margins: Margins | None,
    threats: tuple[Threat, ...],
    seed: int,
) -> dict[str, Any]:
    """Columns of what :class:`recuse.attacks.Margins` finds; none where it is not asked for.

    Args:
        model: The classifier.
        x: Inputs, where it computes.
        logits: Its logits there.
        batch: The inputs with their labels and ids.
        margins: The searches.
        threats: Balls of one norm, radii ascending.
        seed: Of the random starts, together with each input's id.
    """
    if margins is None:
        return {}
    threats = tuple(t for t in threats if not margins.radii or t.eps in margins.radii)
    labels = batch.labels.to(x.device)
    noise = SampleNoise(seed, batch.ids, "margins")
    found, passes = margins(model, x, labels, threats, noise=noise, clean_logits=logits)
    own, more = _of_answers(model, x, logits, found, labels, margins, threats, noise)
    passes += more
    columns: dict[str, Any] = {
        "margin": (-ProbabilityMargin()(logits.double(), labels)).cpu().numpy(),
        "entropy": entropy(logits.double()).cpu().numpy(),
        "margin_passes": passes.cpu().numpy(),
    }
    for threat, worst, stable in zip(threats, found, own, strict=True):
        for kind, value in _values(worst, *stable, logits.shape[1]).items():
            known = [None if v != v else v for v in value.tolist()]
            columns[radius_column(kind, threat.eps)] = known
    return columns


def _of_answers(
    model: nn.Module,
    x: Images,
    logits: Logits,
    found: Sequence[WorstCases],
    labels: Labels,
    margins: Margins,
    threats: tuple[Threat, ...],
    noise: SampleNoise,
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Worst margin and confidence of each answer, right or wrong, and the passes it took.

    Of a right answer the searches for the label speak; of a wrong one it takes others.
    """
    answers = logits.argmax(1)
    wrong = (answers != labels).nonzero()[:, 0]
    own = [(worst.margin.clone(), worst.least.clone()) for worst in found]
    passes = torch.zeros_like(labels)
    if len(wrong):
        again, passes[wrong] = margins(
            model,
            x[wrong],
            answers[wrong],
            threats,
            noise=noise.take(wrong.tolist()),
            clean_logits=logits[wrong],
        )
        for (margin, least), worst in zip(own, again, strict=True):
            margin[wrong], least[wrong] = worst.margin, worst.least
    return own, passes


def _values(
    worst: WorstCases, stable_margin: Tensor, stable_confidence: Tensor, classes: int
) -> dict[str, Tensor]:
    return {
        "worst_margin": worst.margin,
        "worst_confidence": worst.confidence,
        "least_confidence": worst.least,
        "stable_margin": stable_margin,
        "stable_confidence": stable_confidence,
        "largest_entropy": largest_entropy(worst.least, classes),
    }


def largest_entropy(least: Tensor, classes: int) -> Tensor:
    """Largest entropy of a distribution that gives one class at least so much.

    The rest spread evenly; below an equal share nothing is bounded but by the number of classes.

    Args:
        least: Probability of the class, NaN where it is not known.
        classes: Number of classes, at least two.
    """
    p = least.clamp_min(1 / classes)
    most: Tensor = (
        torch.special.entr(p) + torch.special.entr(1 - p) + (1 - p) * math.log(classes - 1)
    )
    return most


__all__ = ["largest_entropy", "margin_columns"]
