"""One training step: passes, seconds and losses of ours against the paper's step, written naively.

    python benchmarks/train_step.py --json train_step.json

The network is fine-tuned with batch norm in eval mode, as the paper's ERA does it. Both programs
get the same start points and noise, so that their losses must agree step by step.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from counting import count_passes
from harness import Row, alternate, cifar_test, run_script, shared_model
from naive_training import NAIVE, SIGMA, Given
from recuse.models import CifarResNet, ResNet, build_seeded, normalized
from recuse.models.prepared import Precision
from recuse.protocols import Objective
from recuse.random import SampleNoise
from recuse.threat import Threat
from recuse.training import Cra, Era, Robust
from recuse.training.forward import Trainee
from recuse.training.noise import Gaussian

LINF, L2 = Threat("linf", "2/255"), Threat("l2", 0.25)
LR, TRACE_STEPS = 1e-4, 50
# Largest relative difference of losses that two forms of one method may have over these steps; the
# numbers of bf16 have 8 bits.
ROUNDING: dict[Precision, float] = {"fp32": 1e-5, "bf16": 0.05}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Method:
    """A method, its threat, the most passes it may take and how much faster it must be."""

    objective: Objective
    threat: Threat
    passes: int
    goal: float
    batch: int


METHODS = {
    "era": Method(Era(batch_norm="eval"), LINF, 26, 1.35, 32),
    "trades_linf": Method(Robust(batch_norm="eval"), LINF, 27, 1.25, 32),
    "trades_l2": Method(Robust(batch_norm="eval"), L2, 27, 2.2, 32),
    "cra": Method(Cra(sigma=SIGMA, k=16), L2, 48, 1.0, 8),
}


def optimizer(model: nn.Module) -> torch.optim.SGD:
    """The paper's."""
    return torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=1e-4)


def draw(method: Method, x: Tensor, y: Tensor, ids: tuple[str, ...], step: int) -> Given:
    """The start point and the noise that the objective will draw in this step."""
    noise = SampleNoise(0, ids, f"train/{step}")
    if isinstance(method.objective, Cra | Gaussian):
        k = method.objective.k
        drawn = noise.substream("gaussian").normal(x[:, None].expand(-1, k, *x.shape[1:]))
        return Given(x, y, x, drawn)
    start = method.objective  # ERA starts anywhere in the ball, TRADES beside x
    attack = noise.substream("attack")
    if isinstance(start, Robust):
        return Given(x, y, start.loss.start(x, method.threat, start.attack, attack), x)
    assert isinstance(start, Era)
    return Given(x, y, start.attack.begin(x, method.threat, attack), x)


class Ours:
    """Our program: the objective on the prepared copy."""

    def __init__(self, model: nn.Module, method: Method, precision: Precision = "fp32") -> None:
        self.model = copy.deepcopy(model)
        self.trainee, self.method = Trainee(self.model, precision), method
        self.optimizer = optimizer(self.model)

    def step(self, x: Tensor, y: Tensor, ids: tuple[str, ...], step: int) -> float:
        self.optimizer.zero_grad()
        noise = SampleNoise(0, ids, f"train/{step}")
        terms = self.method.objective(self.trainee, x, y, self.method.threat, noise=noise)
        terms.total.mean().backward()
        self.optimizer.step()
        return float(terms.total.detach().mean())


class Naive:
    """The paper's program."""

    def __init__(self, model: nn.Module, method: Method, name: str) -> None:
        self.model, self.method = copy.deepcopy(model), method
        self.loss, self.optimizer = NAIVE[name], optimizer(self.model)

    def step(self, x: Tensor, y: Tensor, ids: tuple[str, ...], step: int) -> float:
        given = draw(self.method, x, y, ids, step)
        self.model.zero_grad()
        total = self.loss(self.model, given, self.method.threat).mean()
        total.backward()
        self.optimizer.step()
        return float(total.detach())


def passes_rows(name: str, method: Method, model: nn.Module, part: Any) -> list[Row]:
    """Exact passes per sample; fine-tuning, and with batch statistics where those differ."""
    x, y, ids = part.images[:4], part.labels[:4], part.ids[:4]
    _, ours = count_passes(model, x, lambda: Ours(model, method).step(x, y, ids, 0))
    _, anchor = count_passes(model, x, lambda: Naive(model, method, name).step(x, y, ids, 0))
    ours, anchor = ours.per(4), anchor.per(4)
    detail = {"ours": str(ours), "anchor": str(anchor)}
    ratio = anchor.total / ours.total
    return [Row(f"{name}/passes", ours.total, anchor.total, ratio, method.passes, "passes", detail)]


def time_row(
    name: str,
    method: Method,
    model: nn.Module,
    part: Any,
    repeats: int,
    precision: Precision = "fp32",
) -> Row:
    """Seconds per step, in turn; bf16 against the naive step in fp32."""
    x, y, ids = part.images[: method.batch], part.labels[: method.batch], part.ids[: method.batch]
    ours, naive = Ours(model, method, precision), Naive(model, method, name)
    programs: list[Callable[[], float]] = [
        lambda: ours.step(x, y, ids, 0),
        lambda: naive.step(x, y, ids, 0),
    ]
    programs[0](), programs[1]()
    timing = alternate(*programs, repeats=repeats)
    bf16 = precision == "bf16"
    return timing.row(
        f"{name}/time{'_bf16' if bf16 else ''}", 3.0 if bf16 else method.goal, batch=method.batch
    )


def trace(a: Ours | Naive, b: Ours | Naive, part: Any, dtype: torch.dtype) -> float:
    """Largest relative difference of two programs' losses over a run of steps."""
    gaps, size = [], 4
    for step in range(TRACE_STEPS):
        rows = slice(size * step, size * (step + 1))
        batch = part.images[rows].to(dtype), part.labels[rows], part.ids[rows]
        left, right = a.step(*batch, step), b.step(*batch, step)
        gaps.append(abs(left - right) / max(abs(right), 1.0))
    return max(gaps)


def exact_row(name: str, method: Method, part: Any) -> Row:
    """Same losses in float64, batch norm folded: the two programs are the same method."""
    model = small_network(part.images).double()
    gap = trace(Ours(model, method), Naive(model, method, name), part, torch.float64)
    detail = {"steps": TRACE_STEPS, "network": "ResNet-8"}
    return Row(f"{name}/loss_gap_float64", gap, 0.0, 0.0, 1e-10, "mismatches", detail)


def rounded_row(name: str, method: Method, part: Any, precision: Precision = "fp32") -> Row:
    """Same losses as the naive step in float32, as far as rounding lets them be.

    The anchor's number is how far the naive program gets from *itself* when nothing but the
    memory layout of its weights changes; the ratio is the gap asked for over the gap found.
    """
    model, allowed = shared_model("cifar10_resnet4b_adv2"), ROUNDING[precision]
    naive = Naive(model, method, name)
    gap = trace(Ours(model, method, precision), naive, part, torch.float32)
    turned = Naive(model, method, name)
    turned.model.to(memory_format=torch.channels_last)
    floor = trace(turned, Naive(model, method, name), part, torch.float32)
    detail: dict[str, Any] = {"steps": TRACE_STEPS, "network": "resnet4b", "allowed": allowed}
    if gap > allowed:
        detail["cause"] = (
            f"rounding: the naive step differs from itself by {floor:.1g} in another memory layout "
            "(signs of gradients near 0, which TRADES starts from); float64 agrees"
        )
    # No gate: where rounding decides, a miss is no fault of either program, and is still shown.
    share = allowed / max(gap, allowed * 1e-3)
    label = {"fp32": "float32", "bf16": "bf16"}[precision]
    return Row(f"{name}/loss_gap_{label}", gap, floor, share, 1.0, "share", detail)


def small_network(images: Tensor) -> nn.Module:
    """A fresh ResNet-8 whose batch-norm statistics are those of real images."""
    model = normalized(build_seeded(CifarResNet(depth=8), 0), MEAN, STD)
    model.train()
    with torch.no_grad():
        for part in images[:192].split(64):
            model(part)
    return model.eval()


def run(repeats: int) -> list[Row]:
    """All rows."""
    part = cifar_test(max(4 * TRACE_STEPS, 64))
    resnet20 = shared_model("cifar10_resnet20_std")
    rows: list[Row] = []
    for name, method in METHODS.items():
        rows += passes_rows(name, method, resnet20, part)
        rows.append(exact_row(name, method, part))
        rows.append(rounded_row(name, method, part))
        rows.append(time_row(name, method, resnet20, part, repeats))
    resnet18 = normalized(build_seeded(ResNet(depth=18), 0), MEAN, STD).eval()
    wide = Method(METHODS["era"].objective, LINF, 26, 1.35, 8)
    rows.append(rounded_row("era", METHODS["era"], part, "bf16"))
    rows.append(time_row("era", wide, resnet18, part, repeats, "bf16"))
    return rows


if __name__ == "__main__":
    run_script(run, __doc__.splitlines()[0] if __doc__ else "")
