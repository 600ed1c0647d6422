"""Data as people have them, at the command line: what is left out is listed, the code says so."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from recuse.cli.main import main
from recuse.records.store import read_records

from .test_datasets import JUDGE, TRAIN, folder, network, parquet


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ended(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    told = capsys.readouterr()
    return int(stop.value.code or 0), told.out, told.err


def test_what_cannot_be_read_is_listed_and_the_code_is_3(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photos = folder(tmp_path / "photos", {"ant": range(4), "bee": range(4, 8)})
    (photos / "cow").mkdir()
    (photos / "bee" / "5.png").write_text("a note")
    model = network(tmp_path / "net.safetensors", "ant", "bee", "cow")
    words = ("evaluate", model, "--data", photos, "--part", "all", "--out", "run", *JUDGE)
    code, _, err = ended(capsys, *words)
    assert code == 2
    assert "5.png: the image is truncated or not an image" in err
    code, out, err = ended(capsys, *words, "--skip-unreadable")
    assert code == 3
    assert out.startswith("judging 7 images of photos\n")
    assert "cow holds no image" in err
    assert "left out: " in err
    assert "bee/5.png" in err
    assert "1 images could not be read and were left out" in err
    (record,) = read_records(Path("run"))
    assert len(record.frame) == 7
    assert "photos/bee/5.png" not in set(record.frame["sample_id"])
    shown = ("data", "show", photos, "--skip-unreadable")
    shutil.rmtree(photos / "cow")
    for verb in (shown, ("train", model, "--data", photos, "--skip-unreadable", "--out", "n")):
        code, _, err = ended(capsys, *verb, *(TRAIN if verb[0] == "train" else ()))
        assert code == 3
        assert err.count("bee/5.png") == 1


def test_size_channels_and_names_of_classes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photos = folder(tmp_path / "photos", {"n01": range(4), "n02": range(4, 8)})
    with Image.open(photos / "n01" / "0.png") as image:
        image.resize((20, 11)).save(photos / "n01" / "0.png")
    model = network(tmp_path / "net.safetensors", "bee", "ant")
    words = ("evaluate", model, "--data", photos, "--part", "all", "--out", "run", *JUDGE)
    assert "--size" in ended(capsys, *words)[2]
    code, _, err = ended(capsys, *words, "--size", "8")
    assert code == 2
    assert "does not know (n01, n02; it knows bee, ant)" in err
    (tmp_path / "names.txt").write_text("n01 = ant\nn02 = bee\n")
    named = (*words, "--size", "8", "--classes", "names.txt")
    main([str(word) for word in named])
    assert "re-ordered by name to the classes of photos" in capsys.readouterr().out
    code, _, err = ended(capsys, *named, "--channels", "1", "--out", "grey")
    assert code == 2
    assert "'net' cannot read images of shape (1, 8, 8)" in err
    assert not Path("grey").exists()
    code, _, err = ended(capsys, "data", "show", "digits", "--size", "8")
    assert (code, "digits takes no size" in err) == (2, True)


def test_a_limit_reads_the_first_images_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = parquet(tmp_path / "all.parquet", range(40))
    model = network(tmp_path / "net.safetensors", "0", "1")
    words = ("evaluate", model, "--test-on", file, "--out", "run", "--limit", "5", *JUDGE)
    main([str(word) for word in words])
    assert capsys.readouterr().out.startswith("judging the first 5 images of all\n")
    main(["train", "small(size=8)", "--data", str(file), "--out", "net", "--limit", "6", *TRAIN])
    assert "training on 6 images of all/train" in capsys.readouterr().out
