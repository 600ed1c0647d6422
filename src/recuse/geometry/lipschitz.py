"""Empirical local Lipschitzness: how fast a classifier's output changes near the data.

Source: Yang, Rashtchian, Zhang, Salakhutdinov, Chaudhuri, "A Closer Look at Accuracy vs.
Robustness", NeurIPS 2020, Section 5.1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.errors import ConfigError, DataError
from recuse.geometry.steepest import gradient, jacobian, steepest_points
from recuse.modes import evaluation_mode
from recuse.progress import Progress, silent
from recuse.random import SampleNoise
from recuse.threads import suitable_threads, using_threads
from recuse.threat import Threat, expand_as

_TINY = 1e-12
_LEAST = 1e-300  # of double precision
_NEAREST = 1 / 64  # of the way to the end of the ball; nearer, rounding would pass for slope
_LINEAR = 0.01  # this close to a power of 1, no distance is better than another
Output = Literal["logits", "probabilities"]


@dataclass(frozen=True)
class Lipschitz:
    """The largest slope that a search inside a ball finds.

    It starts at the steepest end of the ball for the network's linearisation at the image, which
    is the answer for a linear network (of at most ten outputs), and climbs from there: the
    direction follows the gradient of the change, and the distance, which a gradient of the slope
    handles badly in Linf, grows or shrinks as the slope along the direction asks for.

    For ten classes and ten steps it costs 14 forward and 20 backward passes.

    Attributes:
        steps: Steps of the climb; 0 looks at the start alone.
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
            noise: Of the random start where the network has no gradient at the image.

        Returns:
            Slope per image, per pixel unit of the norm.
        """
        with evaluation_mode(model):
            return self._search(model, x.detach(), threat, noise)

    def _search(self, model: nn.Module, x: Tensor, threat: Threat, noise: SampleNoise) -> PerSample:
        logits, classes, gradients = jacobian(model, x)
        centre = self._output(logits)
        if self.output == "probabilities":
            gradients = _of_probabilities(logits, classes, gradients)

        def change(points: Images) -> PerSample:
            return (self._output(model(points)) - centre).abs().sum(dim=1)

        end = steepest_points(gradients, x, threat)
        flat = threat.distance(end, x) == 0
        end = torch.where(expand_as(flat, x), threat.random_start(x, noise), end)
        return self._climb(change, x, _steeper_end(change, x, end, threat), threat)

    def _climb(
        self, change: Callable[[Images], PerSample], x: Images, end: Images, threat: Threat
    ) -> PerSample:
        """The largest slope on the way; points lie on the line from ``x`` to an end of the ball."""
        best = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        share, factor = torch.ones_like(best), torch.full_like(best, 4.0)
        outwards = torch.ones_like(best, dtype=torch.bool)
        for step in range(self.steps + 1):
            point = (x + expand_as(share, x) * (end - x)).requires_grad_()
            with torch.enable_grad():
                changed = change(point)
                # Of the logarithm: a saturated softmax has changes too small for a gradient.
                grad = gradient(changed.clamp_min(_LEAST).log(), point)
            point = point.detach()
            best = torch.maximum(best, _slope(changed.detach(), point, x, threat))
            if step == self.steps:
                break
            # On the line, the change grows as this power of the distance.
            power = ((point - x) * grad).flatten(1).sum(dim=1)
            factor = torch.where(outwards == (power > 1), factor, factor.sqrt())
            outwards = power > 1
            other = (share * torch.where(outwards, factor, 1 / factor)).clamp(_NEAREST, 1)
            share = torch.where((power - 1).abs() < _LINEAR, share, other)
            ahead = end + self.step_size * threat.eps * threat.ascent_direction(grad)
            end = threat.project(ahead, x)
        return best

    def _output(self, logits: Logits) -> Logits:
        # In double precision, since a softmax rounds to 0 and 1 in single.
        exact = logits.double()
        return exact.softmax(dim=1) if self.output == "probabilities" else exact


def _of_probabilities(logits: Logits, classes: Tensor, gradients: Tensor) -> Tensor:
    """Gradients of the probabilities of ``classes`` from those of their logits.

    Scaled so that the largest of an image is 1: next to a sure answer they are too small for
    single precision, and only their directions are asked for.
    """
    p = logits.double().softmax(dim=1).gather(1, classes)
    flat = gradients.flatten(2).double()
    centred = flat - (p[:, None] @ flat) / p.sum(dim=1)[:, None, None]
    of_p = p[:, :, None] * centred
    largest = of_p.abs().amax(dim=(1, 2), keepdim=True).clamp_min(_LEAST)
    return (of_p / largest).to(gradients.dtype).view_as(gradients)


def _steeper_end(
    change: Callable[[Images], PerSample], x: Images, end: Images, threat: Threat
) -> Images:
    """``end`` or the opposite one: alike for a linear network, not for one that saturates."""
    opposite = threat.project(2 * x - end, x)
    with torch.no_grad():
        there, back = (_slope(change(point), point, x, threat) for point in (end, opposite))
    return torch.where(expand_as(there >= back, x), end, opposite)


def _slope(change: PerSample, point: Images, x: Images, threat: Threat) -> PerSample:
    return (change / threat.distance(point, x).clamp_min(_TINY)).to(x.dtype)


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
    with using_threads(suitable_threads(model, images[:1].to(device), batch_size)):
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
