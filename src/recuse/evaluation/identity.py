"""How a record knows a network again: what it answers on images that depend on nothing."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from recuse.errors import DataError
from recuse.models.inputs import logits_of
from recuse.models.prepared import Bf16Network
from recuse.modes import evaluation_mode
from recuse.random import SampleNoise
from recuse.records.answers import Answers

NOISE_IMAGES = 4
# Odd strides through the pixels: gradients across channels, rows and columns.
RAMPS = (1, 3, 5, 7)
# In units of the largest output. Measured on the 13 networks of the models folder: 7e-7 between
# processors (SSE to AMX), threads, layouts and prepared copies, 7e-4 with TF32's 10-bit mantissa,
# and 2.4e-2 between fp32 and bf16.
TOLERANCE = 5e-3
TOLERANCE_BF16 = 5e-2
DIGITS = 8


def probe(shape: tuple[int, ...]) -> Tensor:
    """The images a network is known by, float32 in [0, 1]; they depend on the shape alone.

    Args:
        shape: Of one image.

    Returns:
        Uniform noise, and ramps that run through the pixels at different strides.
    """
    noise = SampleNoise(0, tuple(f"probe-{i}" for i in range(NOISE_IMAGES)), "identity")
    size = torch.Size(shape).numel()
    pixels = torch.arange(size, dtype=torch.float64)
    ramps = [(pixels * k).remainder(size).div(max(size - 1, 1)).view(shape) for k in RAMPS]
    return torch.cat([noise.uniform(torch.empty(NOISE_IMAGES, *shape)), torch.stack(ramps).float()])


def answers(networks: Mapping[str, nn.Module], images: Tensor) -> dict[str, Answers]:
    """What each network answers on the probe, in eval mode and without a trace in its parts.

    Args:
        networks: By the names that messages give them.
        images: Of the shape and type and on the device that the networks take.

    Raises:
        DataError: A network that cannot read such images, or returns something else than logits,
            or whose answer for one image depends on the others, or that writes into its images.
    """
    batch = probe(tuple(images.shape[1:])).to(images)
    return {name: _answers(name, network, batch) for name, network in networks.items()}


def _answers(name: str, network: nn.Module, batch: Tensor) -> Answers:
    drawing = [batch.device] if batch.device.type == "cuda" else []
    with torch.random.fork_rng(drawing), evaluation_mode(network):
        first, second = (_rows(_outputs(name, network, batch)) for _ in range(2))
        parts = [_outputs(name, network, part) for part in torch.split(batch, NOISE_IMAGES)]
        differentiable = _has_gradient(network, batch)
    tolerance = TOLERANCE_BF16 if _is_half(network) else TOLERANCE
    found = Answers(first, 0.0, tolerance, differentiable)
    spread = found.distance(Answers(second, 0.0, tolerance))
    if spread <= tolerance < found.distance(Answers(_rows(torch.cat(parts)), 0.0, tolerance)):
        raise DataError(
            f"{name!r} answers an image otherwise beside other images (batch norm without running "
            "statistics does), so that nothing can be said of one image; make its answer depend on "
            "the image alone"
        )
    return replace(found, spread=spread)


def _outputs(name: str, network: nn.Module, images: Tensor) -> Tensor:
    given = images.clone()
    outputs = logits_of(network, given, name)
    if not torch.equal(given, images):
        raise DataError(
            f"{name!r} writes into the images it is given, which would change the data for good; "
            "write that step out of place (x = x - mean, not x -= mean)"
        )
    return outputs


@torch.enable_grad()
def _has_gradient(network: nn.Module, batch: Tensor) -> bool:
    x = batch.clone().requires_grad_()
    try:
        outputs = network(x.clone()).float().flatten(1)
        # Weighted, because probabilities sum to 1 whatever the image.
        total = (outputs * torch.arange(1, outputs.shape[1] + 1, device=x.device)).sum()
        (gradient,) = torch.autograd.grad(total, x)
    except RuntimeError:  # no graph leads from the outputs to the images
        return False
    return bool((gradient != 0).any())


def _rows(outputs: Tensor) -> tuple[tuple[float | None, ...], ...]:
    """Outputs with eight digits, far below the tolerance, so that the file stays small."""
    flat = outputs.float().flatten(1).cpu()
    finite = flat.isfinite()
    return tuple(
        tuple(float(f"{v:.{DIGITS}g}") if ok else None for v, ok in zip(*row, strict=True))
        for row in zip(flat.tolist(), finite.tolist(), strict=True)
    )


def _is_half(network: nn.Module) -> bool:
    if any(isinstance(module, Bf16Network) for module in network.modules()):
        return True
    return any(v.dtype in (torch.bfloat16, torch.float16) for v in network.state_dict().values())


__all__ = ["answers", "probe"]
