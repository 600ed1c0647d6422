"""``recuse audit`` as a user types it: networks of every kind, interrupted, and given wrongly."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recuse.cli.main import main
from recuse.models import Mlp
from recuse.models.cards import card_for
from recuse.models.checkpoint import save_checkpoint
from recuse.records import store
from recuse.records.hashes import records_hash
from recuse.records.layout import AUDIT, RECORDS
from recuse.records.store import read_records

NETS = """
import torch
from torch import nn


class Light(nn.Module):
    "Dark or bright, by a margin of steepness; a shift moves the border, a sign turns the answer."

    def __init__(self, steep=30.0, border=0.5, classes=2, levels=0):
        super().__init__()
        self.border = nn.Parameter(torch.tensor(float(border)))
        self.steep, self.classes, self.levels = steep, classes, levels

    def forward(self, x):
        if self.levels:
            x = (x * self.levels).round() / self.levels
        margin = self.steep * (x.flatten(1).mean(1) - self.border)
        others = torch.full((len(x), self.classes - 2), -99.0)
        return torch.cat([torch.stack([-margin, margin], 1), others], 1)


def right(): return Light()
def wrong(): return Light(steep=-30.0)
def blind(): return Light(levels=7)
def three(): return Light(classes=3)
def accurate(): return Light(border=0.51)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of dark and bright grey images, and a module of networks."""
    draw = np.random.default_rng(0)
    for name, low in (("bright", 150), ("dark", 60)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(12):
            pixels = draw.integers(low, low + 40, (8, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    (tmp_path / "nets_of_audit.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("nets_of_audit", None)


QUICK = ("--part", "all", "--attack", "apgd(steps=5)", "--threat", "linf:0.1")


def audited(network: str, *words: str) -> None:
    main(["audit", f"nets_of_audit:{network}", "pictures", *QUICK, "--out", "run", *words])


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["audit", *words])
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.out == ""
    assert said.err.rstrip().count("\n") <= 1
    return said.err.splitlines()[-1]


# Labels are counted in the order of the names: bright is 0, and the networks call it 1.
@pytest.mark.parametrize(
    ("network", "words", "says"),
    [
        ("wrong", (), "right and robust nearly everywhere"),
        ("wrong", ("--limit", "5"), "is right on 100.0"),
        ("right", (), "no better than guessing"),
        ("blind", (), "no better than guessing"),
    ],
)
def test_grey_images_of_two_classes(
    network: str, words: tuple[str, ...], says: str, place: Path, capsys
) -> None:
    audited(network, *words)
    said = capsys.readouterr()
    assert said.out.count("\n") == 1
    assert says in said.out
    assert "nan" not in said.out
    page = (place / "run" / AUDIT).read_text()
    assert page.count("<h1>Audit of ") == 1
    assert ("Robustly wrong" in page) == (network == "right")
    assert "data:image/png;base64," in page or network != "right"


def test_a_hidden_gradient_is_named_and_another_attack_into_the_folder_counts(
    place: Path, capsys
) -> None:
    for name in ("bright", "dark"):  # the network calls dark 0 and bright 1
        (place / "pictures" / name).rename(place / "pictures" / {"bright": "b", "dark": "a"}[name])
    audited("blind", "--threat", "linf:0.3")
    said = capsys.readouterr().out
    assert "could not be judged" in said
    command = shlex.split(said.split("Next: ")[1])
    assert command[:2] == ["recuse", "evaluate"]
    command[command.index("ensemble")] = "square(queries=300)"
    main(command[1:])
    capsys.readouterr()
    audited("blind", "--threat", "linf:0.3")
    assert "could not be judged" not in capsys.readouterr().out


def test_a_core_is_counted_with_both_members_alone(place: Path, capsys) -> None:
    audited("wrong", "--core", "nets_of_audit:accurate")
    said = capsys.readouterr().out
    assert "accurate alone is right on 0.0" in said
    page = (place / "run" / AUDIT).read_text()
    assert "Whether to compose" in page
    assert "wrong → accurate" in page
    assert {r.meta.tags["role"] for r in read_records(place / "run")} == {"robust", "core"}


def test_what_cannot_be_audited_is_one_sentence_and_leaves_nothing(place: Path, capsys) -> None:
    wrong = ("nets_of_audit:wrong", "pictures", *QUICK, "--out", "run")
    (place / "empty").mkdir()
    cases = [
        ((*wrong, "--core", "nets_of_audit:three"), "knows 3"),
        ((*wrong, "--core", "nets_of_audit:wrong"), "is the network that is audited"),
        (("nets_of_audit:nobody", *wrong[1:]), "nobody"),
        (("nets_of_audit:wrong", "empty", "--out", "run"), "empty"),
        (("nets_of_audit:wrong", "nowhere", "--out", "run"), "nowhere"),
        ((*wrong, "--threat", "linf"), "linf"),
        ((*wrong, "--limit", "0"), "limit 0"),
    ]
    for words, says in cases:
        assert says in refused(capsys, *words)
        assert not (place / "run").exists()


def test_an_interrupted_audit_goes_on_to_the_same_result(place: Path, monkeypatch, capsys) -> None:
    words = ("--batch-size", "6")
    audited("wrong", *words)
    whole = records_hash(read_records(place / "run"))
    page = (place / "run" / AUDIT).read_text()
    said = capsys.readouterr().out
    (place / "run").rename(place / "before")
    kept = store.Shards.append
    calls: list[int] = []

    def twice(self, *rows, **more):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return kept(self, *rows, **more)

    with monkeypatch.context() as patched:
        patched.setattr(store.Shards, "append", twice)
        with pytest.raises(SystemExit) as stop:
            audited("wrong", *words)
    assert stop.value.code == 130
    assert not (place / "run" / AUDIT).exists()
    assert sum(r.frame.height for r in read_records(place / "run" / RECORDS)) == 12
    capsys.readouterr()
    audited("wrong", *words)
    assert records_hash(read_records(place / "run")) == whole
    assert capsys.readouterr().out == said
    time = re.compile(r"Written by recuse on [^.]*\.")
    assert time.sub("", (place / "run" / AUDIT).read_text()) == time.sub("", page)


def test_a_checkpoint_that_was_trained_on_nothing(tmp_path: Path, capsys) -> None:
    torch.manual_seed(0)
    card = card_for("fresh", Mlp(shape=(1, 8, 8), classes=10, width=8, hidden=1))
    save_checkpoint(tmp_path / "fresh.safetensors", card.build(), card)
    words = ("--limit", "20", "--attack", "apgd(steps=3)", "--threat", "linf:0.05")
    main(["audit", str(tmp_path / "fresh.safetensors"), "digits", *words, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert "no better than guessing" in said
    assert "With 20 images these intervals are wide" in said
