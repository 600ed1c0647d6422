"""Two models become systems: fitted on one half, judged on the other, written with their entry."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from recuse.cli.main import main
from recuse.data import Digits, Splits
from recuse.models import card_for, save_checkpoint
from recuse.models.mixture import mixed
from recuse.models.wide_resnet import SwishWideResNet, WideResNet
from recuse.systems import load
from recuse.systems.build import halves
from recuse.systems.mixing import Pair, fitted
from recuse.threat import Threat

from .conftest import BUDGET, card

NUMBERS = tuple("0123456789")


def test_mixednuts_is_fitted_on_one_half_by_what_an_attack_left(
    robust: nn.Module, accurate: nn.Module, digits: Splits
) -> None:
    pair = Pair((robust, card("a")), (accurate, card("c")), digits.test.head(200), BUDGET, 0)
    choosing, _ = halves(pair.split, 0)
    nuts, more = fitted(pair, choosing, 0.9), fitted(pair, choosing, 0.99)
    assert 0.5 < nuts.alpha < more.alpha <= 1  # who keeps more leaves the other less to say
    assert 0 <= nuts.objective <= more.objective <= 100


def test_compose_leaves_systems_with_their_entries(
    robust: nn.Module, accurate: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, model in (("era", robust), ("core", accurate)):
        save_checkpoint(tmp_path / f"{name}.safetensors", model, card(name, NUMBERS))
    refs = [str(tmp_path / f"{name}.safetensors") for name in ("era", "core")]
    words = ["compose", *refs, "--data", "digits", "--limit", "60", "--search", "1"]
    main([*words, "--threat", "linf:0.05", "--out", str(tmp_path / "run")])
    said = capsys.readouterr().out
    images = Digits().load().test.images[:60]
    for name in ("mixednuts", "mixture"):
        folder = tmp_path / "run" / name
        if not folder.exists():
            folder = tmp_path / "run" / "one-hot-mixture"
        system = load(folder)
        found = system.measured
        assert found["sound"] is not None
        assert found["sound"][0] <= found["attacked"][0] <= found["natural"][0]
        assert found["rows"] + system.chosen_on["rows"] == 60
        parts = mixed(system.cascade.models[0])
        q = parts.standard(images).softmax(1)
        if parts.mixture.one_hot:
            q = torch.nn.functional.one_hot(q.argmax(1), 10).float()
        p = parts.mixture.alpha * parts.mapped(images).softmax(1) + (1 - parts.mixture.alpha) * q
        assert system.predict(images).label == p.argmax(1).tolist()
        info = json.loads((folder / "model_info.json").read_text())
        assert info["recuse"]["sound"] == found["sound"]
        assert not info["unreliable"]
        assert f"wrote {folder}" in said.replace("\n", "")
    assert "core alone" in said
    for more, says in (
        (refs[:1], "takes two MODELs"),
        ([*refs, "--threat", "linf:0.05"], "a folder for what it finds"),
        ([*refs, "--out", "x"], "name the attacker's budget"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["compose", *more, "--data", "digits"])
        assert stop.value.code == 2
        assert says in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["compose", str(tmp_path)])
    assert "images to judge two MODELs on" in capsys.readouterr().err


def test_what_cannot_be_fitted_is_one_sentence(
    robust: nn.Module, accurate: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, model in (("era", robust), ("core", accurate)):
        save_checkpoint(tmp_path / f"{name}.safetensors", model, card(name, NUMBERS))
    refs = [str(tmp_path / f"{name}.safetensors") for name in ("era", "core")]
    words = ["compose", *refs, "--data", "digits", "--limit", "30", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main([*words, "--threat", "linf:0.9"])
    assert "MixedNUTS is fitted on answers that survive" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_networks_of_the_leaderboards_kinds_are_composed(tmp_path: Path, shared_data: Path) -> None:
    """Random weights behave at random, so that only shapes and forms are asked for."""
    for name, config in (("swish", SwishWideResNet(10, 1)), ("wide", WideResNet(10, 1))):
        about = card_for(name, config, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            save_checkpoint(tmp_path / f"{name}.safetensors", about.build(), about)
    refs = [str(tmp_path / f"{name}.safetensors") for name in ("swish", "wide")]
    words = ["compose", *refs, "--data", "cifar10", "--limit", "16", "--search", "1"]
    out = tmp_path / "run"
    main([*words, "--threat", "linf:0.0001", "--max-natural-loss", "100", "--out", str(out)])
    (first, *_) = sorted(out.glob("*/model_info.json"))
    info = json.loads(first.read_text())
    assert info["architecture"] == "SwishWideResNet-10-1 + WideResNet-10-1"
    assert info["eps"] == Threat("linf", "0.0001").radius
