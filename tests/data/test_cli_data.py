import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from recuse.cli import data as verb
from recuse.data import Digits, ImageFolder, ParquetFiles, ShardFolder, source_at
from recuse.data.sheet import contact_sheet
from recuse.data.split import stratified_order
from recuse.errors import DataError

from .conftest import Writer, png, random_pixels


def test_list_says_what_is_here_and_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gtsrb_train.parquet").touch()
    (tmp_path / "gtsrb_test.parquet").touch()
    verb.list_(data_root=tmp_path)
    text = capsys.readouterr().out
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if "│" in line}
    assert "yes" in rows["digits"]
    assert "yes" in rows["gtsrb"]
    assert "no" in rows["cifar10"]


def test_show_counts_classes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verb.show("digits", out=tmp_path / "sheet.png")
    text = capsys.readouterr().out
    assert "[1, 8, 8]" in text
    assert "1078" in text
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.mode == "RGB"


def test_crop_reports_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write_parquet: Writer
) -> None:
    blobs = [png(p) for p in random_pixels(8, 20, 20, 3)]
    columns = {
        "names": ["go", "stop"],
        "width": [20] * 8,
        "height": [20] * 8,
        "x1": [5] * 8,
        "y1": [5] * 8,
        "x2": [9] * 7 + [2],
        "y2": [9] * 8,
        "track": list(range(8)),
    }
    for part in ("train", "test"):
        write_parquet(blobs, [0, 1] * 4, file=f"gtsrb_{part}.parquet", **columns)
    verb.crop("gtsrb", tmp_path, tmp_path / "out", size=16)
    text = capsys.readouterr().out
    assert "images of 2 classes" in text
    assert "left out: 2 empty box" in text
    parts = ShardFolder(tmp_path / "out").load()
    assert parts.test.label_names == ("go", "stop")
    assert len(parts.test) == 7
    assert isinstance(source_at(tmp_path / "out"), ShardFolder)


def test_a_path_becomes_the_source_it_looks_like(tmp_path: Path) -> None:
    assert source_at(tmp_path) == ImageFolder(tmp_path)
    file = tmp_path / "x.parquet"
    assert source_at(file) == ParquetFiles(file)
    with pytest.raises(DataError, match="neither a folder nor"):
        source_at(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"no train/\*\.parquet, nor train-\*\.parquet"):
        ShardFolder(tmp_path).load()


def test_a_contact_sheet_shows_every_image_at_its_place() -> None:
    images = [torch.full((3, 5, 5), k / 10) for k in range(10)]
    with Image.open(io.BytesIO(contact_sheet(images, ["x"] * 10, columns=4, tile=20))) as sheet:
        for k in range(10):
            at = (6 + (k % 4) * 26 + 10, 6 + (k // 4) * 40 + 10)
            assert sheet.getpixel(at) == (round(k / 10 * 255),) * 3
        assert sheet.getpixel((2, 2)) == (255, 255, 255)
    with pytest.raises(ValueError, match="one per image"):
        contact_sheet(images, ["x"])


def test_classes_take_turns() -> None:
    labels = Digits().load().test.labels
    order = stratified_order(labels)
    assert sorted(order) == list(range(len(labels)))
    assert labels[order[:10]].tolist() == list(range(10))
    assert labels[order[10:20]].tolist() == list(range(10))
