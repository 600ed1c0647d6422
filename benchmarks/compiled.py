"""Does torch.compile pay on a prepared network? Forward and input gradient, compiled or not.

A ratio of 1 says that it does not. The rows have no goal: they are why ``prepare`` compiles
nothing of itself. Compilation takes up to minutes, told as ``seconds_to_compile``; attacks change
their batch size while they run, so shapes are dynamic.
"""

import time

import torch
from torch import Tensor, nn

from harness import Row, alternate, run_script, shared_model
from harness_anchor import trained_resnet18
from recuse.models.prepared import Precision, prepare

BATCH = 32


def step(model: nn.Module, x: Tensor) -> Tensor:
    """Gradient of a loss with respect to the input."""
    leaf = x.detach().requires_grad_()
    (grad,) = torch.autograd.grad(model(leaf).logsumexp(1).sum(), leaf)
    return grad


def compare(label: str, model: nn.Module, precision: Precision, repeats: int) -> Row:
    """One network in one precision, compiled against not compiled."""
    x = torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    eager = prepare(model, precision=precision)
    compiled = torch.compile(prepare(model, precision=precision), dynamic=True)
    begin = time.perf_counter()
    found, wanted = step(compiled, x), step(eager, x)
    took = time.perf_counter() - begin
    timing = alternate(
        lambda: step(compiled, x),
        lambda: step(eager, x),
        repeats=3 * repeats,
        warm_up=lambda: step(compiled, x),
    )
    return timing.row(
        f"compiled {label} {precision}",
        goal=0.0,
        seconds_to_compile=round(took, 1),
        largest_difference=float((found - wanted).abs().max() / wanted.abs().max()),
    )


def run(repeats: int) -> list[Row]:
    networks = {"resnet4b": shared_model("cifar10_resnet4b_adv2"), "resnet18": trained_resnet18()}
    return [
        compare(label, model, precision, repeats)
        for label, model in networks.items()
        for precision in ("fp32", "bf16")
    ]


if __name__ == "__main__":
    run_script(run, __doc__ or "")
