"""Entropy response: answer where the predicted distribution is concentrated."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.errors import ConfigError
from recuse.random import SampleNoise
from recuse.results import Guarantee


def entropy(logits: Logits) -> PerSample:
    """Shannon entropy of softmax(logits), in nats."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


@dataclass(frozen=True)
class EntropyResponse:
    """Selects where the entropy of softmax f(x) is at most ``-threshold`` nats.

    Attributes:
        threshold: Negative entropy, at most 0 (0 = only one-hot predictions); the score is
            the negative entropy, so that higher means keep.

    Source: Mueller, Balunovic, Vechev, "Certify or Predict", ICLR 2021 (entropy selection).
    """

    threshold: float

    def __post_init__(self) -> None:
        if not (self.threshold <= 0 and math.isfinite(self.threshold)):
            raise ConfigError(
                f"entropy threshold {self.threshold} is positive: scores are negative entropies, "
                "so nothing would be selected; write -0.5 to keep entropies up to 0.5 nats"
            )

    @property
    def guarantee(self) -> Guarantee:
        """None."""
        return Guarantee.NONE

    @torch.no_grad()
    def answer(
        self, model: nn.Module, x: Images, *, noise: SampleNoise
    ) -> tuple[Logits, PerSample]:
        """Logits and their negative entropy."""
        logits = model(x)
        return logits, -entropy(logits)

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> PerSample:
        """Negative entropy at ``x``."""
        return self.answer(model, x, noise=noise)[1]

    def surrogate(
        self, model: nn.Module, x: Images, labels: Labels, *, noise: SampleNoise
    ) -> PerSample:
        """Score above the threshold; the label plays no part."""
        return -entropy(model(x)) - self.threshold
