"""A stage that abstains nowhere: what a mixture stands behind."""

from dataclasses import dataclass

import torch
from torch import nn

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.random import SampleNoise
from recuse.results import Guarantee


@dataclass(frozen=True)
class Always:
    """Selects every input, and promises nothing of any: the score is 1 everywhere."""

    @property
    def threshold(self) -> float:
        """Below every score."""
        return 0.0

    @property
    def guarantee(self) -> Guarantee:
        """None."""
        return Guarantee.NONE

    @torch.no_grad()
    def answer(
        self, model: nn.Module, x: Images, *, noise: SampleNoise
    ) -> tuple[Logits, PerSample]:
        """Logits, and 1 per input."""
        logits = model(x)
        return logits, logits.new_ones(len(x))

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> PerSample:
        """1 per input."""
        return x.new_ones(len(x))

    def surrogate(
        self, model: nn.Module, x: Images, labels: Labels, *, noise: SampleNoise
    ) -> PerSample:
        """Above 0 everywhere, and nothing changes it."""
        return x.new_ones(len(x))
