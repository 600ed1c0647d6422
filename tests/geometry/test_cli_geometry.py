import json
from pathlib import Path

import pytest
from PIL import Image

from recuse.cli import geometry as verb
from recuse.cli.arguments import Reading


def test_separation_leaves_numbers_and_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb.separation("digits", out=tmp_path, eps=("0.1", "0.3"), reading=Reading(limit=200))
    out = capsys.readouterr().out
    assert "train-train, linf: minimum" in out
    found = json.loads((tmp_path / "separation-linf.json").read_text())
    assert found["test-train"]["queries"] == 200
    assert found["train-train"]["share_within_2eps"]["0.1"] == 0
    assert found["train-train"]["class_pair_minimum"][0][1] > 0
    for name in ("nearest-train-train-linf", "nearest-test-train-linf", "separation-linf"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 100


def test_separation_of_points_draws_no_images(tmp_path: Path) -> None:
    verb.separation("gaussians", norm="l2", out=tmp_path, eps=("0.1",))
    assert not (tmp_path / "nearest-train-train-l2.png").exists()
    found = json.loads((tmp_path / "separation-l2.json").read_text())
    # 2,000 training points: the drawn 1,000 and the held-out 1,000.
    assert found["references"] == 2000


NETS = """
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


def test_lipschitz_writes_slopes_beside_the_accuracy_gap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets_of_this_test.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "lipschitz.json"
    measured = verb.Slopes(threat="linf:0.1")
    net = ("nets_of_this_test:build",)
    verb.lipschitz("digits", net, reading=Reading(limit=64), measured=measured, out=out)
    found = json.loads(out.read_text())
    (row,) = found["rows"]
    assert found["threat"] == "linf:0.1"
    assert row["gap"] == pytest.approx(row["train"]["accuracy"] - row["test"]["accuracy"])
    # A linear network is as steep on test as on train images.
    assert row["train"]["lipschitz"] == pytest.approx(row["test"]["lipschitz"], rel=0.1)
    assert "slope test" in capsys.readouterr().out
