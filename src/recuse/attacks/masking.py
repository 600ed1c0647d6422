"""Signs that a model hides its gradient, so that its apparent robustness is not to be trusted."""

from dataclasses import dataclass, field

import torch
from torch import nn

from recuse.arrays import Images, Labels, Mask
from recuse.attacks.apgd import Apgd
from recuse.attacks.margins import CrossEntropy
from recuse.attacks.search import input_gradient
from recuse.attacks.square import Square
from recuse.attacks.verify import evaluation_mode, forward
from recuse.protocols import Attack
from recuse.random import SampleNoise
from recuse.threat import Threat

_FLAT = 1e-6


@dataclass(frozen=True)
class MaskingFlags:
    """What was seen per input, and what it says about the model.

    Attributes:
        flat: A full-radius step along the gradient does not raise the loss.
        black_box_only: The gradient-free attack broke what the gradient attack did not.
        few_steps_only: The gradient attack broke it with few steps and failed with many.
        tolerance: Share of the inputs above which a sign raises its flag.
    """

    flat: Mask
    black_box_only: Mask
    few_steps_only: Mask
    tolerance: float = 0.01

    @property
    def flags(self) -> dict[str, bool]:
        """Each sign, and whether it occurs on more than the tolerated share of inputs."""
        signs = {
            "loss flat at the input": self.flat,
            "black-box attack stronger than white-box": self.black_box_only,
            "more steps not stronger": self.few_steps_only,
        }
        return {name: float(sign.double().mean()) > self.tolerance for name, sign in signs.items()}

    @property
    def suspicious(self) -> bool:
        """Whether any flag is up."""
        return any(self.flags.values())


@dataclass(frozen=True)
class MaskingCheck:
    """The attacks that a check for gradient masking compares.

    Attributes:
        white: The gradient attack whose verdicts are to be trusted.
        few: The same with fewer steps.
        black: A gradient-free attack.
        tolerance: Share of the inputs above which a sign raises its flag.
    """

    white: Attack = field(default_factory=Apgd)
    few: Attack = field(default_factory=lambda: Apgd(steps=10))
    black: Attack = field(default_factory=Square)
    tolerance: float = 0.01

    def __call__(
        self, model: nn.Module, x: Images, y: Labels, threat: Threat, *, noise: SampleNoise
    ) -> MaskingFlags:
        """Look for the three signs on a batch.

        Args:
            model: The classifier.
            x: Inputs.
            y: Reference labels, as for the attack whose verdict is in question.
            threat: The ball.
            noise: The attacks' random starts.
        """
        with evaluation_mode(model):
            flat = flat_at(model, x, y, threat)
        broken = self.white(model, x, y, threat, noise=noise).success
        black_box_only = torch.zeros_like(broken)
        few_only = torch.zeros_like(broken)
        rows = (~broken).nonzero().squeeze(1)
        if len(rows):
            left = noise.take(rows.tolist())
            black = self.black(model, x[rows], y[rows], threat, noise=left.substream("black"))
            few = self.few(model, x[rows], y[rows], threat, noise=left)
            black_box_only[rows], few_only[rows] = black.success, few.success
        return MaskingFlags(flat, black_box_only, few_only, self.tolerance)


def flat_at(model: nn.Module, x: Images, y: Labels, threat: Threat) -> Mask:
    """Whether a full-radius step along the gradient of the cross-entropy fails to raise it."""
    loss = CrossEntropy()
    _, before, grad = input_gradient(model, x, lambda logits: loss(logits, y))
    step = threat.project(x + threat.eps * threat.ascent_direction(grad), x)
    after = loss(forward(model, step), y)
    return ~(after > before * (1 + _FLAT))  # NaN is flat too


__all__ = ["MaskingCheck", "MaskingFlags", "flat_at"]
