"""Empirical local Lipschitzness: how fast a classifier's output changes near the data.

Source: Yang, Rashtchian, Zhang, Salakhutdinov, Chaudhuri, "A Closer Look at Accuracy vs.
Robustness", NeurIPS 2020, Section 5.1.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Labels, PerSample
from recuse.errors import ConfigError, DataError
from recuse.modes import evaluation_mode
from recuse.progress import Progress, silent
from recuse.random import SampleNoise
from recuse.threat import Threat

_TINY = 1e-12
Output = Literal["logits", "probabilities"]


@dataclass(frozen=True)
class Lipschitz:
    """The largest slope that projected gradient ascent finds inside a ball.

    Attributes:
        steps: Ascent steps; 0 looks at the random start alone.
        step_size: Share of the radius per step.
        output: Whether slopes are of the logits or of the softmax.

    Raises:
        ConfigError: Fewer than 0 steps, or a step size that is not above 0.
    """

    steps: int = 10
    step_size: float = 0.2
    output: Output = "logits"

    def __post_init__(self) -> None:
        if self.steps < 0 or not self.step_size > 0:
            raise ConfigError(
                f"{self.steps} steps of {self.step_size} of the radius climb nowhere; give 0 or "
                "more steps of a size above 0"
            )

    def __call__(
        self, model: nn.Module, x: Images, threat: Threat, *, noise: SampleNoise
    ) -> PerSample:
        """Per image, the largest ``|f(x') - f(x)|_1 / |x' - x|_p`` found; a lower bound.

        Args:
            model: Images in [0, 1] to logits; evaluated in eval mode and left as it was.
            x: Images.
            threat: Ball and norm p.
            noise: Of the random start.

        Returns:
            Slope per image, per pixel unit of the norm.
        """
        with evaluation_mode(model):
            return self._ascend(model, x.detach(), threat, noise)

    def _ascend(self, model: nn.Module, x: Tensor, threat: Threat, noise: SampleNoise) -> PerSample:
        with torch.no_grad():
            centre = self._output(model, x)
        x_adv = threat.random_start(x, noise)
        best = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for step in range(self.steps + 1):
            x_adv = x_adv.detach().requires_grad_()
            with torch.enable_grad():
                change = (self._output(model, x_adv) - centre).abs().sum(dim=1)
                slope = change / threat.distance(x_adv, x).clamp_min(_TINY)
            best = torch.maximum(best, slope.detach())
            if step < self.steps:
                (grad,) = torch.autograd.grad(slope.sum(), x_adv)
                direction = threat.ascent_direction(grad)
                ahead = x_adv.detach() + self.step_size * threat.eps * direction
                x_adv = threat.project(ahead, x)
        return best

    def _output(self, model: nn.Module, x: Tensor) -> Tensor:
        logits: Tensor = model(x)
        return logits.softmax(dim=1) if self.output == "probabilities" else logits


@dataclass(frozen=True)
class Smoothness:
    """A classifier on one part of the data.

    Attributes:
        lipschitz: Mean of the local slopes.
        accuracy: Natural accuracy.
        count: Number of images.
    """

    lipschitz: float
    accuracy: float
    count: int


def smoothness(
    model: nn.Module,
    images: Images,
    labels: Labels,
    ids: tuple[str, ...],
    threat: Threat,
    *,
    method: Lipschitz | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress = silent,
) -> Smoothness:
    """Mean local Lipschitzness and accuracy over one part of a data set.

    Compare train with test: the gap of the accuracies is the generalisation gap.

    Args:
        model: Images in [0, 1] to logits; on the device to compute on.
        images: All images, on any device.
        labels: Their classes.
        ids: Stable sample ids; the result does not depend on ``batch_size``.
        threat: Ball and norm; a radius above 0.
        method: Steps and output; by default ten steps on the logits.
        seed: Of the random starts.
        batch_size: Images per forward pass.
        progress: Called as images are done.

    Raises:
        DataError: The radius is 0, there is no image, or the model returns values that are not
            finite.
        ConfigError: ``batch_size`` below 1.
    """
    if threat.eps == 0:
        raise DataError("local Lipschitzness needs a radius above 0, for example linf:2/255")
    if not len(images):
        raise DataError("local Lipschitzness needs at least one image")
    if batch_size < 1:
        raise ConfigError(f"batch size is {batch_size}; a forward pass needs at least one image")
    measure = method or Lipschitz()
    device = next((p.device for p in model.parameters()), images.device)
    slopes, correct = [], []
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        x = images[rows].to(device)
        noise = SampleNoise(seed, ids[rows], "lipschitz")
        slopes.append(measure(model, x, threat, noise=noise).cpu())
        correct.append(_correct(model, x, labels[rows].to(device)).cpu())
        progress("lipschitz", min(start + batch_size, len(images)), len(images))
    mean = float(torch.cat(slopes).double().mean())
    if not math.isfinite(mean):
        raise DataError(
            f"the model's slope is {mean}: it returns NaN or infinity; check its weights"
        )
    return Smoothness(
        lipschitz=mean,
        accuracy=float(torch.cat(correct).double().mean()),
        count=len(images),
    )


def _correct(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with evaluation_mode(model), torch.no_grad():
        logits: Tensor = model(x)
        return logits.argmax(dim=1) == y
