"""On a GPU: Auto-PGD against AutoAttack's, the share of the peak, graphs and compilation.

    python benchmarks/accelerator.py --json accelerator.json

A WideResNet-28-10 with random weights, at a radius where about half of the inputs break, in
batches of 512. It needs no data. Without a GPU the same rows run on a tiny network with goals of
0, to see that they run: such numbers say nothing.
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness import Row, alternate, predictions, run_script
from harness_anchor import broken_at, official_apgd, official_start
from recuse.attacks import Apgd, Screened
from recuse.models.architectures import architecture, build_seeded
from recuse.models.graphs import GraphedNetwork
from recuse.models.normalize import normalized
from recuse.models.prepared import prepare
from recuse.protocols import Attack
from recuse.random import SampleNoise
from recuse.threat import Threat
from roofline import convolution_peak, forward_operations, rate, step

SCREEN_STEPS = 10
SMALLEST, LARGEST, HALVINGS = 0.1 / 255, 64 / 255, 10


@dataclass(frozen=True)
class Setting:
    """What fits the machine.

    Attributes:
        device: Where the networks run.
        depth: Of the WideResNet.
        width: Of the WideResNet.
        batch: Images together.
        goals: Whether the numbers mean anything.
    """

    device: str
    depth: int
    width: int
    batch: int
    goals: bool

    @classmethod
    def here(cls) -> "Setting":
        if torch.cuda.is_available():
            return cls("cuda", 28, 10, 512, goals=True)
        return cls("cpu", 10, 1, 32, goals=False)

    def goal(self, ratio: float) -> float:
        return ratio if self.goals else 0.0

    def network(self) -> nn.Module:
        bare = build_seeded(architecture("wide_resnet", depth=self.depth, width=self.width), seed=0)
        return normalized(bare, (0.5,) * 3, (0.25,) * 3).eval().to(self.device)

    def images(self, count: int) -> Tensor:
        draw = torch.Generator().manual_seed(0)
        return torch.rand(count, 3, 32, 32, generator=draw).to(self.device)


@contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """TensorFloat-32 in convolutions and products of a block."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = enabled
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def mixed_radius(model: nn.Module, x: Tensor, y: Tensor, noise: SampleNoise) -> Threat:
    """A radius at which the attack breaks about half of the inputs, by bisection."""
    low, high = SMALLEST, LARGEST
    for _ in range(HALVINGS):
        threat = Threat("linf", (low * high) ** 0.5)
        broken = float(Apgd()(model, x, y, threat, noise=noise).success.float().mean())
        low, high = (threat.eps, high) if broken < 0.5 else (low, threat.eps)
    return threat


def attacks(setting: Setting, repeats: int) -> list[Row]:
    """Auto-PGD, 40 steps, fp32 with and without TF32 and with a bf16 screen."""
    model, x = setting.network(), setting.images(setting.batch)
    y, prepared = predictions(model, x), prepare(model)
    noise = SampleNoise(0, tuple(map(str, range(len(x)))))
    threat = mixed_radius(prepared, x, y, noise)
    screened = Screened(Apgd(), prepare(model, precision="bf16"), Apgd(steps=SCREEN_STEPS))
    programs: dict[str, tuple[Attack, bool]] = {
        "fp32": (Apgd(), False),
        "tf32": (Apgd(), True),
        "bf16 screen": (screened, False),
        "bf16 screen, tf32": (screened, True),
    }
    rows = []
    for label, (attack, faster) in programs.items():
        with tf32(faster):
            rows += against_anchor(
                setting, f"apgd {label}", model, prepared, attack, x, y, threat, repeats
            )
    return rows


def against_anchor(
    setting: Setting,
    name: str,
    model: nn.Module,
    prepared: nn.Module,
    attack: Attack,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    repeats: int,
) -> list[Row]:
    """Time against AutoAttack's APGD, and what only the anchor broke."""
    noise = SampleNoise(0, tuple(map(str, range(len(x)))))
    found, start = {}, official_start(x, threat)

    def ours() -> None:
        found["ours"] = attack(prepared, x, y, threat, noise=noise, start=start).x_adv

    def anchor() -> None:
        found["anchor"] = official_apgd(model, x, y, threat)

    timing = alternate(ours, anchor, repeats=repeats, warm_up=ours)
    broken, theirs = (broken_at(model, found[key], y) for key in ("ours", "anchor"))
    only = int((theirs & ~broken).sum())
    share = round(float(broken.float().mean()), 3)
    return [
        timing.row(name, setting.goal(3.0), eps=threat.eps, broken_share=share),
        Row(f"{name}: broken by the anchor only", only, 0, only, 0.005 * len(x), "mismatches"),
    ]


def peak_share(setting: Setting, repeats: int) -> list[Row]:
    """A bf16 step's share of the best rate of one of the network's own convolutions."""
    model, x = setting.network(), setting.images(setting.batch)
    prepared = prepare(model, precision="bf16")
    operations = 2 * forward_operations(model, x)
    shapes = [(16 * setting.width * 2**stage, 32 >> stage) for stage in range(3)]
    pairs = [
        (
            rate(lambda: step(prepared, x), operations, 3) / 1e9,
            convolution_peak(torch.bfloat16, len(x), 3, shapes, setting.device)[0] / 1e9,
        )
        for _ in range(repeats)
    ]
    ours, peak = (statistics.median(values) for values in zip(*pairs, strict=True))
    share = statistics.median(a / b for a, b in pairs)
    return [Row("bf16 step, share of the peak", ours, peak, share, setting.goal(0.5), "share")]


def variants(setting: Setting, repeats: int) -> list[Row]:
    """A step with graphs on small batches, and compiled, against the prepared network as it is."""
    rows = []
    for precision in ("fp32", "bf16"):
        eager = prepare(setting.network(), precision=precision)
        others: list[tuple[str, Callable[[], nn.Module], tuple[int, ...]]] = [
            ("compiled", lambda: torch.compile(eager), (setting.batch,)),  # noqa: B023
        ]
        if setting.device == "cuda":
            others.append(("graphs", lambda: GraphedNetwork(eager), (1, 8, 64)))  # noqa: B023
        for label, build, sizes in others:
            network = build()
            for size in sizes:
                x = setting.images(size)
                rows.append(
                    faster_step(f"{label} {precision} batch {size}", network, eager, x, repeats)
                )
    return rows


def faster_step(name: str, network: nn.Module, eager: nn.Module, x: Tensor, repeats: int) -> Row:
    """Time of a step of one form of a network against another, and how far the gradients differ."""
    found, wanted = step(network, x), step(eager, x)
    timing = alternate(lambda: step(network, x), lambda: step(eager, x), repeats=3 * repeats)
    gap = float((found - wanted).abs().max() / wanted.abs().max())
    return timing.row(name, goal=0.0, largest_difference=gap)


def run(repeats: int) -> list[Row]:
    torch.manual_seed(0)
    setting = Setting.here()
    return attacks(setting, repeats) + peak_share(setting, repeats) + variants(setting, repeats)


if __name__ == "__main__":
    run_script(run, __doc__ or "")
