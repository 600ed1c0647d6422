"""Two small networks that tell real digits apart, trained once for all tests of systems."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from recuse.attacks import Apgd
from recuse.composition import AdaptiveAdversary, Core, Stage
from recuse.data import Digits, Splits
from recuse.evaluation.attack_cascade import CascadeAttack
from recuse.models import Mlp
from recuse.models.cards import Card, card_for
from recuse.systems import InputForm, System
from recuse.systems.build import Building, build
from recuse.systems.choosing import OpenStage
from recuse.systems.typed import open_selector
from recuse.threat import Threat

BUDGET = Threat("linf", "0.05")
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FORM = InputForm(1, (8, 8))
QUICK = CascadeAttack(AdaptiveAdversary(steps=2, attacks=(Apgd(steps=5),)))


@pytest.fixture(scope="session")
def digits() -> Splits:
    return Digits().load()


def trained(digits: Splits, *, eps: float, seed: int) -> nn.Module:
    """A network fitted in a second; with ``eps`` on points moved against it by one step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Mlp(shape=(1, 8, 8), classes=10, width=32, hidden=1)
        card = card_for("net", net)
        model = card.build()
    x, y = digits.train.images, digits.train.labels
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        moved = x.clone().requires_grad_()
        loss = nn.functional.cross_entropy(model(moved), y)
        (grad,) = torch.autograd.grad(loss, moved)
        near = (x + eps * grad.sign()).clamp(0, 1)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(near), y).backward()
        optimiser.step()
    return model.eval()


def card(name: str, labels: tuple[str, ...] = LABELS) -> Card:
    config = Mlp(shape=(1, 8, 8), classes=10, width=32, hidden=1)
    return card_for(name, config, label_names=labels)


@pytest.fixture(scope="session")
def robust(digits: Splits) -> nn.Module:
    return trained(digits, eps=0.1, seed=0)


@pytest.fixture(scope="session")
def accurate(digits: Splits) -> nn.Module:
    return trained(digits, eps=0.0, seed=1)


def stage(model: nn.Module, text: str = "indicator(attack=apgd(steps=5))") -> OpenStage:
    selector, is_open = open_selector(text, BUDGET)
    return OpenStage(Stage(model, selector, "era", card("era")), is_open)


@pytest.fixture(scope="session")
def built(
    digits: Splits, robust: nn.Module, accurate: nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> System:
    """A whole system, measured on 40 of 80 images."""
    return build(
        [stage(robust)],
        Core(accurate, "core", card("core")),
        digits.test.head(80),
        Building(BUDGET, attack=QUICK),
        name="digits",
        labels=LABELS,
        form=FORM,
        run=tmp_path_factory.mktemp("built"),
    )


@pytest.fixture(scope="session")
def saved(built: System, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("systems") / "digits"
    built.save(folder)
    return folder


@pytest.fixture(scope="session")
def pictures(digits: Splits) -> np.ndarray:
    """Eight digits as a camera would deliver them: 256 steps, channels last."""
    images = digits.test.images[:8].permute(0, 2, 3, 1).mul(255).round()
    return images.numpy().astype(np.uint8)


@pytest.fixture(scope="session")
def files(pictures: np.ndarray) -> list[bytes]:
    """The same digits as PNG files."""
    found = []
    for pixels in pictures:
        file = io.BytesIO()
        Image.fromarray(pixels[:, :, 0]).save(file, "PNG")
        found.append(file.getvalue())
    return found
