"""What a GPU must not be made to do in a step, seen without one; and with one, where there is."""

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

from recuse.certify import Crown, Ibp
from recuse.data.augment import CropFlip
from recuse.models import ConvNet5, ResNet, WideResNet, build_seeded
from recuse.models.normalize import normalized
from recuse.modes import evaluation_mode, full_products
from recuse.random import SampleNoise
from recuse.recipes import recipe
from recuse.recipes.gtsrb import AUGMENT
from recuse.training import Ema, Standard, TrainConfig, Unsure
from recuse.training.averaging import Averager
from recuse.training.batches import Batch
from recuse.training.forward import Trainee
from recuse.training.ibp import MtlIbp, Sabr
from recuse.training.steps import differentiate
from recuse.transfer import sent

IDS = tuple(map(str, range(6)))
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def trained() -> dict[str, TrainConfig]:
    """One training of every kind that a recipe for a GPU holds, and of signs."""
    plans = {plan.name: plan.train for plan in recipe("cifar10_wide", quick=True).models}
    names = ("core", "adversarial", "trades-2", "at-2", "era-0.3-2", "era-at-0.3-8")
    chosen = {name: plans[name] for name in names}
    threat = chosen["core"].threat
    signs = replace(chosen["core"], augment=AUGMENT, objective=Unsure())
    bounds = {
        kind.__name__: replace(chosen["core"], objective=kind(), precision="fp32", threat=threat)
        for kind in (MtlIbp, Sabr)
    }
    return {**chosen, "signs": signs, **bounds}


def network(name: str, device: str) -> torch.nn.Module:
    bounded = name in ("MtlIbp", "Sabr")
    kind = (
        ConvNet5(width=2) if bounded else WideResNet(10, 1) if name == "at-2" else ResNet(width=2)
    )
    return normalized(build_seeded(kind, 0), (0.5,) * 3, (0.25,) * 3).to(device)


def steps(config: TrainConfig, model: torch.nn.Module) -> Callable[[], dict[str, torch.Tensor]]:
    """What the loop does for a batch between two looks at the loss."""
    draw = torch.Generator().manual_seed(0)
    batch = Batch(torch.rand(6, 3, 32, 32, generator=draw), torch.arange(6), IDS, 6)
    trainee, averager = Trainee(model, config.precision), Averager(Ema(0.9), model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)

    def step() -> dict[str, torch.Tensor]:
        sums = differentiate(trainee, batch, config, progress=0.5, epoch=0, parts=1)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        averager.update(model, 0.5, epoch_end=False)
        return sums

    return step


@pytest.mark.parametrize("name", trained())
def test_a_step_reads_nothing_back_and_leaves_nothing_on_the_processor(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device there are no values to read, and a tensor elsewhere is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **settings: nullcontext())
    config = replace(trained()[name], precision="fp32")
    model = network(name, "meta")
    sums = steps(config, model)()
    assert {value.device.type for value in sums.values()} == {"meta"}
    assert {p.grad.device.type for p in model.parameters() if p.grad is not None} == {"meta"}


def test_a_look_at_a_value_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Looking(CropFlip):
        def __call__(self, images, noise):
            assert float(images.sum()) > 0
            return images

    config = replace(trained()["core"], precision="fp32", augment=Looking(), objective=Standard())
    monkeypatch.setattr(torch, "autocast", lambda *args, **settings: nullcontext())
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        steps(config, network("core", "meta"))()


def test_what_is_sent_to_a_processor_is_the_tensor_itself() -> None:
    x = torch.rand(2, 3)
    assert sent(x, torch.device("cpu")) is x
    assert sent(x, torch.device("cpu"), torch.float64).dtype == torch.float64
    assert sent(x, torch.device("meta")).device.type == "meta"


class _Switch:
    def __init__(self, value: str) -> None:
        self.fp32_precision = value


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> tuple[_Switch, _Switch]:
    """Of convolutions and products on a machine that has a GPU, whatever was chosen there."""
    convolutions, products = _Switch("tf32"), _Switch("none")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "conv", convolutions, raising=False)
    monkeypatch.setattr(torch.backends.cuda, "matmul", products)
    return convolutions, products


@pytest.mark.parametrize("certifier", [Ibp(), Crown()])
def test_bounds_are_those_of_full_products(
    certifier: Ibp | Crown, switches: tuple[_Switch, _Switch]
) -> None:
    seen = set()

    class Watching(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is torch.nn.functional.conv2d or function is torch.conv2d:
                seen.add(switches[0].fp32_precision)
            return function(*args, **(kwargs or {}))

    net, x = network("Sabr", "cpu").eval(), torch.rand(2, 3, 32, 32)
    with Watching():
        certifier.decide(net, x, [1e-4], noise=SampleNoise(0, IDS[:2]))
    assert seen == {"ieee"}


def test_networks_are_judged_in_full_products(switches: tuple[_Switch, _Switch]) -> None:
    convolutions, products = switches
    seen = []

    class Looks(torch.nn.Module):
        def forward(self, x):
            seen.append((convolutions.fp32_precision, products.fp32_precision))
            return x

    with evaluation_mode(Looks()):
        Looks()(torch.zeros(1))
    with pytest.raises(ZeroDivisionError), evaluation_mode(Looks()):
        seen.append(1 / 0)
    assert seen == [("ieee", "ieee")]
    assert (convolutions.fp32_precision, products.fp32_precision) == ("tf32", "none")


@pytest.mark.slow
def test_the_benchmark_of_steps_runs_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    benchmark = importlib.import_module("accelerator")
    rows = list(benchmark.run(["training"], 1))
    assert [row.name for row in rows[2:4]] == ["step of core", "step of adversarial"]
    assert len(rows) == 6
    assert all(row.ok and row.detail["images_per_second"] > 0 for row in rows)


@GPU
@pytest.mark.parametrize("name", trained())
def test_no_step_waits_for_the_gpu(name: str) -> None:
    step = steps(trained()[name], network(name, "cuda"))
    step()  # what is set up once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        sums = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert bool(sums["loss"].isfinite())


@GPU
def test_a_gpu_multiplies_in_float32_where_networks_are_judged() -> None:
    conv, x = torch.nn.Conv2d(64, 64, 3).cuda(), torch.rand(4, 64, 16, 16).cuda()
    exact = torch.nn.functional.conv2d(x.double(), conv.weight.double(), conv.bias.double())
    with full_products():
        gap = (conv(x).double() - exact).abs().max()
    assert gap < 1e-5 * exact.abs().max()
