"""Threads chosen by the size of the work (``recuse.threads``) against all that the processor has.

A step is a forward pass and the gradient to the input. The ratio says how many times longer a step
takes with all threads: about 1 where all are chosen; on a busy machine far above 1 wherever
there is more than one. Seconds are those of the wall, medians. No goal: the rows are why small
networks compute with one thread; the load is in the JSON.
"""

import os

import torch
from torch import Tensor, nn

from harness import Row, alternate, options, report, shared_model
from recuse.models import Mlp, SmallConvNet, build_seeded
from recuse.threads import VARIABLES, multiply_adds, suitable_threads, using_threads

STEPS = 2


def step(model: nn.Module, x: Tensor) -> Tensor:
    """Forward pass and gradient with respect to the input."""
    leaf = x.detach().requires_grad_()
    (grad,) = torch.autograd.grad(model(leaf).logsumexp(1).sum(), leaf)
    return grad


def compare(name: str, model: nn.Module, shape: tuple[int, ...], rows: int, repeats: int) -> Row:
    """One network at one batch size."""
    x = torch.rand(rows, *shape, generator=torch.Generator().manual_seed(0))
    chosen, most = suitable_threads(model, x, rows), torch.get_num_threads()

    def run(threads: int) -> None:
        with using_threads(threads):
            for _ in range(STEPS):
                step(model, x)

    timing = alternate(
        lambda: run(chosen), lambda: run(most), repeats=repeats, warm_up=lambda: run(most)
    )
    return timing.row(
        f"threads {name} batch {rows}",
        goal=0.0,
        chosen=chosen,
        most=most,
        multiply_adds=multiply_adds(model, x) * rows,
        steps=STEPS,
    )


def run(repeats: int) -> list[Row]:
    plane = build_seeded(Mlp(shape=(2,), classes=3, width=64), 0).eval()
    digits = build_seeded(SmallConvNet(channels=1, size=8), 0).eval()
    robust = shared_model("cifar10_resnet4b_adv2")
    return [
        compare(name, model, shape, rows, repeats)
        for name, model, shape, batches in (
            ("gaussians", plane, (2,), (10, 512)),
            ("digits", digits, (1, 8, 8), (64, 512)),
            ("resnet4b", robust, (3, 32, 32), (16, 200)),
        )
        for rows in batches
    ]


if __name__ == "__main__":
    # What the environment says wins, and this script is about what happens where it says nothing.
    for variable in VARIABLES:
        os.environ.pop(variable, None)
    chosen = options(__doc__ or "")
    chosen.set_defaults(threads=os.cpu_count() or 1)
    given = chosen.parse_args()
    report(lambda: run(given.repeats), given.threads, given.json)
