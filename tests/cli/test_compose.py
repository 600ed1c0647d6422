"""``recuse compose`` beside ``recuse attack``: one file that neither spoils for the other."""

import json
from pathlib import Path

import pytest
import torch

from recuse.cli.main import main
from recuse.models import Mlp
from recuse.models.cards import card_for
from recuse.models.checkpoint import save_checkpoint

WORDS = ("--data", "digits", "--limit", "12")
SELECTOR = "indicator(attack=apgd(steps=3))"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with two judged models, whose checkpoints lie in it."""
    run = tmp_path / "run"
    for seed, (name, role) in enumerate({"stage": "robust", "core": "core"}.items()):
        torch.manual_seed(seed)
        card = card_for(name, Mlp(shape=(1, 8, 8), classes=10, width=8, hidden=1))
        save_checkpoint(run / f"{name}.safetensors", card.build(), card)
        judged = [
            *WORDS,
            "--attack",
            "apgd(steps=4)",
            "--threat",
            "linf:0.05",
            "linf:0.1",
            "--out",
            str(run),
            "--role",
            role,
        ]
        main(["evaluate", str(run / f"{name}.safetensors"), *judged])
    return run


def attack(run: Path, eps: str, *words: str) -> None:
    members = [str(run / "stage.safetensors"), "--core", str(run / "core.safetensors")]
    fixed = [*WORDS, "--selector", SELECTOR, "--search", "2", "--threat", f"linf:{eps}"]
    main(["attack", *members, *fixed, *words])


def entries(path: Path) -> dict[str, dict]:
    return {entry["eps"]: entry for entry in json.loads(path.read_text("utf-8"))}


def test_what_the_adversary_found_stands_beside_the_bound(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = run / "composition.json"
    attack(run, "0.05", "--out", str(run))
    attack(run, "0.1", "--out", str(run))
    before = entries(kept)
    capsys.readouterr()
    main(["compose", str(run), "--eps", "0.050", "--out", str(kept)])
    shown = capsys.readouterr().out
    assert "robust (attacked)" in shown
    assert f"{100 * before['0.05']['attacked']:.1f} (12 images)" in shown
    after = entries(kept)
    assert after["0.1"] == before["0.1"]
    (counted,) = [entry for eps, entry in after.items() if eps != "0.1"]
    assert counted["attacked"] == before["0.05"]["attacked"]
    assert counted["images"] == 12
    assert counted["sound"] <= counted["attacked"] <= counted["natural"]


def test_rates_without_their_rows_are_kept(run: Path) -> None:
    rates = {"name": "stage → core", "eps": "0.1", "attacked": 0.25, "images": 4}
    (run / "composition.json").write_text(json.dumps([rates]))
    main(["compose", str(run), "--eps", "0.1", "--out", str(run / "composition.json")])
    (counted,) = json.loads((run / "composition.json").read_text("utf-8"))
    assert counted["attacked"] == 0.25
    assert "sound" in counted


def test_what_is_not_such_a_file_is_left_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ('{"a": 1}', "[1]", '[{"name": "x"}]', '[{"name": "x", "eps": "wide"}]', "{"):
        other = tmp_path / "other.json"
        other.write_text(text)
        with pytest.raises(SystemExit) as stop:
            main(["compose", str(run), "--eps", "0.1", "--out", str(other)])
        said = capsys.readouterr().err
        assert stop.value.code == 2
        assert said.startswith(f"recuse: {other}")
        assert said.count("\n") == 1
        assert other.read_text() == text
    (run / "composition.json").write_text("[1]")
    with pytest.raises(SystemExit) as stop:
        attack(run, "0.1", "--out", str(run))
    assert stop.value.code == 2
    assert not (run / "compositions").exists()
