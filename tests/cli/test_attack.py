"""``recuse attack`` as a user types it: the number, where it is kept, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from recuse.cli.main import main
from recuse.models import Mlp
from recuse.models.cards import card_for
from recuse.models.checkpoint import save_checkpoint

SELECTOR = "indicator(attack=apgd(steps=3))"


def saved(path: Path, name: str, *, classes: int = 10, seed: int = 0) -> str:
    torch.manual_seed(seed)
    card = card_for(name, Mlp(shape=(1, 8, 8), classes=classes, width=8, hidden=1))
    save_checkpoint(path / f"{name}.safetensors", card.build(), card)
    return str(path / f"{name}.safetensors")


def attack(stage: str, core: str, out: Path, *words: str) -> None:
    fixed = ["--data", "digits", "--limit", "8", "--selector", SELECTOR, "--search", "2"]
    main(["attack", stage, "--core", core, *fixed, "--out", str(out), *words])


def test_rates_of_every_composition_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, core = saved(tmp_path, "stage"), saved(tmp_path, "core", seed=1)
    for eps in ("0.05", "0.1", "0.05"):
        attack(stage, core, tmp_path / "run", "--threat", f"linf:{eps}")
    entries = json.loads((tmp_path / "run" / "composition.json").read_text("utf-8"))
    assert [entry["eps"] for entry in entries] == ["0.1", "0.05"]
    for entry in entries:
        assert entry["name"] == "stage → core"
        assert entry["images"] == 8
        assert 0 <= entry["attacked"] <= entry["natural"] <= 1
    assert "robust (attacked)" in capsys.readouterr().out


def test_members_that_do_not_fit_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, core = saved(tmp_path, "stage"), saved(tmp_path, "core", classes=9)
    with pytest.raises(SystemExit) as stop:
        attack(stage, core, tmp_path / "run")
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("recuse: 'stage' knows 10 classes but 'core' knows 9")
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
