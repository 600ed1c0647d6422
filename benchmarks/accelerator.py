"""On a GPU: training steps, Auto-PGD against AutoAttack's, share of the peak, graphs, compilation.

    python benchmarks/accelerator.py --repeats 2 --json accelerator.json

Attacks meet a WideResNet-28-10 with random weights, at a radius where about half of the inputs
break, in batches of 512. It needs no data; ``--parts training`` needs no AutoAttack either.
Without a GPU most of the rows run on tiny networks with goals of 0, to see that they run: such
numbers say nothing.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness import Row, alternate, options, predictions, report, seconds
from recuse.attacks import Apgd, Screened
from recuse.models import ResNet, WideResNet
from recuse.models.architectures import Architecture, architecture, build_seeded
from recuse.models.graphs import GraphedNetwork
from recuse.models.normalize import normalized
from recuse.models.prepared import prepare
from recuse.modes import full_products
from recuse.protocols import Attack
from recuse.random import SampleNoise
from recuse.recipes import Fresh, recipe
from recuse.threat import Threat
from recuse.training import TrainConfig
from recuse.training.averaging import Averager
from recuse.training.batches import Batch
from recuse.training.forward import Trainee
from recuse.training.steps import differentiate
from roofline import convolution_peak, forward_operations, rate, step

SCREEN_STEPS = 10
SMALLEST, LARGEST, HALVINGS, SEARCHED = 0.1 / 255, 64 / 255, 10, 128


@dataclass(frozen=True)
class Setting:
    """What fits the machine.

    Attributes:
        device: Where the networks run.
        depth: Of the WideResNet.
        width: Of the WideResNet.
        batch: Images together.
        steps: Of training that are timed together.
        goals: Whether the numbers mean anything.
    """

    device: str
    depth: int
    width: int
    batch: int
    steps: int
    goals: bool

    @classmethod
    def here(cls) -> "Setting":
        if torch.cuda.is_available():
            return cls("cuda", 28, 10, 512, 20, goals=True)
        return cls("cpu", 10, 1, 32, 1, goals=False)

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
    """Auto-PGD, 40 steps, in fp32 and with a bf16 screen, against the anchor's.

    Ours multiplies in float32 throughout; the anchor does so too, or in TF32, as it comes.
    """
    model, x = setting.network(), setting.images(setting.batch)
    y, prepared = predictions(model, x), prepare(model)
    noise = SampleNoise(0, tuple(map(str, range(len(x)))))
    rough, few = prepare(model, precision="bf16"), range(min(len(x), SEARCHED))
    threat = mixed_radius(rough, x[: len(few)], y[: len(few)], noise.take(few))
    screened = Screened(Apgd(), rough, Apgd(steps=SCREEN_STEPS))
    rows = []
    for label, attack, faster in (
        ("fp32", Apgd(), False),
        ("bf16 screen", screened, False),
        ("bf16 screen, anchor in tf32", screened, True),
    ):
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
    from harness_anchor import broken_at, official_apgd, official_start  # needs AutoAttack

    noise = SampleNoise(0, tuple(map(str, range(len(x)))))
    found, start = {}, official_start(x, threat)

    def ours() -> None:
        found["ours"] = attack(prepared, x, y, threat, noise=noise, start=start).x_adv

    def anchor() -> None:
        found["anchor"] = official_apgd(model, x, y, threat)

    timing = alternate(ours, anchor, repeats=repeats, warm_up=ours)
    with full_products():
        broken, theirs = (broken_at(model, found[key], y) for key in ("ours", "anchor"))
    only = int((theirs & ~broken).sum())
    share = round(float(broken.float().mean()), 3)
    return [
        timing.row(name, setting.goal(3.0), eps=threat.eps, broken_share=share),
        Row(f"{name}: broken by the anchor only", only, 0, only, 0.005 * len(x), "mismatches"),
    ]


def training(setting: Setting, repeats: int) -> list[Row]:
    """Steps of the recipe ``cifar10_wide`` as they follow one another, preparation included.

    The anchor is the time of their multiplications at the best rate of one of the network's own
    convolutions.
    """
    plans = {plan.name: plan for plan in recipe("cifar10_wide", quick=not setting.goals).models}
    rows = []
    for prefix in ("narrow-", "", "wide-"):
        for name, passes in (("core", 3), ("adversarial", 5)):
            plan = plans[prefix + name]
            assert isinstance(plan.start, Fresh)
            assert plan.train is not None
            kind, batch = plan.start.architecture, plan.train.batch_size
            model = normalized(build_seeded(kind, 0), plan.start.mean, plan.start.std)
            model.to(setting.device)
            one = forward_operations(model.eval(), setting.images(1))
            take = training_step(model, plan.train)
            take()
            took = statistics.median(
                seconds(lambda: [take() for _ in range(setting.steps)]) / setting.steps  # noqa: B023
                for _ in range(repeats)
            )
            shapes = own_convolutions(kind)
            peak = convolution_peak(torch.bfloat16, batch, 3, shapes, setting.device)[0]
            least = passes * one * batch / peak
            detail = {"images_per_second": round(batch / took), "peak": peak}
            rows.append(
                Row(f"step of {plan.name}", took, least, least / took, 0.0, "share", detail)
            )
    return rows


def own_convolutions(kind: Architecture) -> list[tuple[int, int]]:
    """Channels and side of a network's 3x3 convolutions that keep their size."""
    if isinstance(kind, WideResNet):
        return [(16 * kind.width << stage, 32 >> stage) for stage in range(3)]
    assert isinstance(kind, ResNet)
    return [(kind.width << stage, 32 >> stage) for stage in range(4)]


def training_step(model: nn.Module, config: TrainConfig) -> Callable[[], object]:
    """A step as the training loop makes it, on images that wait on the processor."""
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(config.batch_size, 3, 32, 32, generator=draw)
    ids = tuple(f"train/{row}" for row in range(config.batch_size))
    batch = Batch(images, torch.arange(config.batch_size) % 10, ids, len(ids))
    trainee, averager = Trainee(model, config.precision), Averager(config.average, model)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1e-6, momentum=config.momentum, weight_decay=config.weight_decay
    )

    def step() -> None:
        differentiate(trainee, batch, config, progress=0.5, epoch=0, parts=1)
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        averager.update(model, 0.5, epoch_end=False)

    return step


def peak_share(setting: Setting, repeats: int) -> list[Row]:
    """A bf16 step's share of the best rate of one of the network's own convolutions."""
    model, x = setting.network(), setting.images(setting.batch)
    prepared = prepare(model, precision="bf16")
    operations = 2 * forward_operations(model, x)
    shapes = own_convolutions(WideResNet(depth=setting.depth, width=setting.width))
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
    rows: list[Row] = []
    for precision in ("fp32", "bf16") if setting.goals else ():
        eager = prepare(setting.network(), precision=precision)
        others: list[tuple[str, Callable[[], nn.Module], tuple[int, ...]]] = [
            ("compiled", lambda: torch.compile(eager), (setting.batch,)),  # noqa: B023
            ("graphs", lambda: GraphedNetwork(eager), (1, 8, 64)),  # noqa: B023
        ]
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


PARTS: dict[str, Callable[[Setting, int], list[Row]]] = {
    "training": training,
    "peak": peak_share,
    "attacks": attacks,
    "variants": variants,
}


def run(parts: Sequence[str], repeats: int) -> Iterator[Row]:
    torch.manual_seed(0)
    setting = Setting.here()
    for part in parts:
        yield from PARTS[part](setting, repeats)


if __name__ == "__main__":
    parser = options(__doc__ or "")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    chosen = parser.parse_args()
    report(lambda: list(run(chosen.parts, chosen.repeats)), chosen.threads, chosen.json)
