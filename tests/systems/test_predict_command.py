"""``recuse predict`` as a user types it."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from recuse.cli.main import main
from recuse.systems import load


@pytest.fixture
def folder(pictures: np.ndarray, tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for i, pixels in enumerate(pictures):
        place = tmp_path / "in" / ("sub" if i > 5 else "") / f"{i}.png"
        Image.fromarray(pixels[:, :, 0]).save(place)
    (tmp_path / "in" / "notes.txt").write_text("not asked about")
    return tmp_path / "in"


def asked(*words: object) -> int:
    try:
        main(["predict", *map(str, words)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_rows_are_the_systems_answers_in_order(
    saved: Path, folder: Path, pictures: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(saved, folder, "--format", "jsonl", "--seed", 4) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(row["input"]).stem for row in rows] == list("01234567")
    wanted = load(saved).predict(pictures, seed=4)
    assert rows == [a.row(r["input"]) for a, r in zip(wanted, rows, strict=True)]


def test_files_patterns_and_tables(
    saved: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(saved, folder / "3.png", folder / "[01].png") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["input", "answer", "by", "guarantee", "score", "passes"]
    assert [Path(line.split()[0]).name for line in lines[1:]] == ["3.png", "0.png", "1.png"]


def test_what_cannot_be_read_is_listed_and_skipped(
    saved: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "1.png").write_bytes(b"nonsense")
    out = tmp_path / "rows.jsonl"
    assert asked(saved, folder, "nowhere.png", "--out", out) == 3
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 9
    failed = {Path(r["input"]).name: r["error"] for r in rows if r["error"]}
    assert set(failed) == {"1.png", "nowhere.png"}
    assert all(set(row) == {"input", "error"} for row in rows if row["error"])
    said = capsys.readouterr().err
    assert said.count("skipped: ") == 2
    assert "2 of 9 inputs could not be read" in said


def test_nothing_to_read_writes_nothing(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    out = tmp_path / "rows.jsonl"
    assert asked(saved, tmp_path / "bad.png", "--out", out) == 2
    assert not out.exists()
    assert asked(tmp_path, tmp_path / "bad.png") == 2
    assert asked(saved) == 2
    assert asked(saved, tmp_path / "bad.png", "--format", "parquet") == 2


def test_parquet_holds_the_same_rows(saved: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.parquet"
    assert asked(saved, folder, "--out", out, "--seed", 1) == 0
    frame = pl.read_parquet(out)
    assert frame.height == 8
    assert frame["label"].to_list() == load(saved).predict(sorted(folder.rglob("*.png"))).label


@pytest.mark.parametrize("kind", ["names", "image"])
def test_standard_input(
    saved: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    names = "".join(f"{folder / name}\n" for name in ("2.png", "5.png")).encode()
    data = names if kind == "names" else (folder / "2.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert asked(saved, "-", "--format", "jsonl") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = [Path(row["input"]).name for row in rows]
    assert found == (["2.png", "5.png"] if kind == "names" else ["-"])


def test_explanations_are_pictures_and_words(
    saved: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(saved, folder / "2.png", "--explain", tmp_path / "why", "--format", "jsonl") == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "at a distance of" in row["explanation"]
    with Image.open(tmp_path / "why" / "000000-2.png") as picture:
        assert picture.size == (256, 128)


@pytest.mark.slow
def test_the_first_answer_comes_soon_and_needs_no_training_code(saved: Path, folder: Path) -> None:
    code = (
        "import sys; from recuse.cli.main import main\n"
        f"main(['predict', {str(saved)!r}, {str(folder / '0.png')!r}])\n"
        "assert not {'sklearn', 'accelerate', 'recuse.training', 'scipy.stats'} & set(sys.modules)"
    )
    began = time.process_time()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.process_time() - began < 1  # of this process: it only waited
