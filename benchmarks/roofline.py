"""How much of the measured convolution peak a ResNet-18 attack step reaches, fp32 and bf16.

The peak is the best rate of any of the network's own 3x3 convolutions alone, in the layout and
precision that suit it best, measured in the same run. A step is a forward pass and the gradient
with respect to the input: twice the forward pass's floating-point operations. Small batches wait
for weights, large ones for feature maps, so that every batch size has a row.
"""

import statistics
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from harness import Row, run_script, seconds
from recuse.models.architectures import architecture, build_seeded
from recuse.models.normalize import normalized
from recuse.models.prepared import Precision, prepare

BATCHES = (16, 32, 64)
SHAPES = ((64, 32), (128, 16), (256, 8), (512, 4))
TYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def rate(work: Callable[[], object], operations: float, repeats: int) -> float:
    """Best rate over the repeats, in operations per second."""
    work()
    return operations / min(seconds(work) for _ in range(repeats))


@torch.no_grad()
def convolution_peak(
    dtype: torch.dtype,
    batch: int,
    repeats: int,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    device: str = "cpu",
) -> tuple[float, str]:
    """Highest rate of one 3x3 convolution of these (channels, side), and which one it was."""
    found: list[tuple[float, str]] = []
    for channels, side in shapes:
        for layout in (torch.contiguous_format, torch.channels_last):
            conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            conv = conv.to(device, dtype, memory_format=layout)  # type: ignore[call-overload]
            x = torch.rand(batch, channels, side, side).to(device, dtype, memory_format=layout)
            operations = 2.0 * batch * channels**2 * 9 * side**2
            best = rate(lambda conv=conv, x=x: conv(x), operations, 3 * repeats)
            found.append((best, f"{channels} channels, {side}x{side}, {layout}"))
    return max(found)


def forward_operations(model: nn.Module, x: Tensor) -> float:
    """Floating-point operations of the convolutions of one forward pass."""
    total = 0.0

    def count(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += 2.0 * out.numel() * module.weight[0].numel()

    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return total


def step(model: nn.Module, x: Tensor) -> Tensor:
    """Forward pass and gradient with respect to the input."""
    leaf = x.detach().requires_grad_()
    (grad,) = torch.autograd.grad(model(leaf).logsumexp(1).sum(), leaf)
    return grad


def measure(
    model: nn.Module, precision: Precision, batch: int, repeats: int
) -> dict[str, list[float]]:
    """Rates of the peak, of a forward pass and of a step, each time in turn."""
    x = torch.rand(batch, 3, 32, 32)
    operations, prepared = forward_operations(model, x), prepare(model, precision=precision)
    found: dict[str, list[float]] = {"peak": [], "forward": [], "step": []}
    for _ in range(repeats):
        found["peak"].append(convolution_peak(TYPES[precision], batch, 2)[0])
        with torch.no_grad():
            found["forward"].append(rate(lambda: prepared(x), operations, 2))
        found["step"].append(rate(lambda: step(prepared, x), 2 * operations, 2))
    return found


def share_row(name: str, rates: list[float], peaks: list[float], goal: float) -> Row:
    """A row of the median share of the peak; rates in GF/s."""
    shares = [r / p for r, p in zip(rates, peaks, strict=True)]
    return Row(
        name,
        statistics.median(rates) / 1e9,
        statistics.median(peaks) / 1e9,
        statistics.median(shares),
        goal,
        "share",
        {"shares": [round(s, 3) for s in shares]},
    )


def run(repeats: int) -> list[Row]:
    network = build_seeded(architecture("resnet18"), seed=0)
    model = normalized(network, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)).eval()
    goals: dict[Precision, tuple[float, float]] = {"fp32": (0.70, 0.80), "bf16": (0.35, 0.35)}
    rows = []
    for (precision, (step_goal, forward_goal)), batch in product(goals.items(), BATCHES):
        found = measure(model, precision, batch, repeats)
        label, peaks = f"roofline {precision} batch {batch}:", found["peak"]
        rows.append(share_row(f"{label} forward + input gradient", found["step"], peaks, step_goal))
        rows.append(share_row(f"{label} forward", found["forward"], peaks, forward_goal))
    return rows


if __name__ == "__main__":
    run_script(run, __doc__ or "")
