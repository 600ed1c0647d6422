"""The train verb: every setting that a method needs, and one sentence for what cannot be."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recuse.cli import datasets
from recuse.cli.arguments import Reading
from recuse.cli.main import main
from recuse.data import source
from recuse.models.checkpoint import load_checkpoint, read_card, save_checkpoint

NET = "small(size=8,channels=1)"
QUICK = ("--data", "digits", "--epochs", "1", "--limit", "100", "--batch-size", "50")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(model: str, out: str, *words: str) -> None:
    main(["train", model, "--out", out, "--device", "cpu", *QUICK, *words])


def refused(capsys: pytest.CaptureFixture[str], model: str, *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        train(model, "out", *words)
    assert stop.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    return complaint


def test_a_smoothed_network_is_trained_and_certified(folder: Path) -> None:
    train(NET, "net", "--objective", "cra(beta=0.3, sigma=0.25, k=4)")
    words = "certify net/model.safetensors --data digits --eps l2:0.1 --out run --limit 4"
    main([*words.split(), "--certifier", "sequential(sigma=0.25, n_max=500)", "--device", "cpu"])
    assert list((folder / "run" / "records").glob("*/*.parquet"))


def test_averages_schedules_and_augmentations_reach_the_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--objective", "era(robust=mart, batch_norm=train)", "--schedule", "step")
    train(NET, "net", *words, "--average", "ema", "--augment", "crop_flip", "--clip-norm", "5")
    (log,) = folder.glob("net/*.jsonl")
    row = json.loads(log.read_text().splitlines()[-1])
    assert row["epoch"] == 1
    took = read_card(Path("net/model.safetensors")).notes["training took"]
    assert took.endswith(f", fp32, 1 epoch of {row['passes']:g} passes an image")
    assert took in capsys.readouterr().err


def test_a_teacher_labels_images_without_labels(folder: Path) -> None:
    train(NET, "teacher", "--objective", "standard")
    digits = source("digits").load().train
    found = datasets.pseudo_labelled_data(
        "digits", "teacher/model.safetensors", digits.head(10), Reading(), "cpu"
    )
    assert found is not None
    network, _ = load_checkpoint(Path("teacher/model.safetensors"))
    with torch.no_grad():
        assert torch.equal(found.labels, network(digits.images).argmax(dim=1))
    assert found.label_names == digits.label_names
    renamed = replace(digits, label_names=tuple(f"d{i}" for i in range(10)))
    other = datasets.pseudo_labelled_data(
        "digits", "teacher/model.safetensors", renamed, Reading(), "cpu"
    )
    assert other is not None
    assert other.label_names == renamed.label_names
    card = replace(
        read_card(Path("teacher/model.safetensors")),
        label_names=tuple(f"d{i}" for i in range(9, -1, -1)),
    )
    save_checkpoint(Path("turned.safetensors"), network, card)
    turned = datasets.pseudo_labelled_data(
        "digits", "turned.safetensors", renamed, Reading(), "cpu"
    )
    assert turned is not None
    assert torch.equal(turned.labels, 9 - found.labels)
    train(NET, "taught", "--extra", "digits", "--teacher", "teacher/model.safetensors")


@pytest.mark.parametrize(
    ("model", "words", "says"),
    [
        ("small(size=32)", (), "cannot read images"),
        (
            "small(size=8,channels=1,classes=3)",
            (),
            "tells 3 classes apart, but digits/train has the 10 classes 0, 1",
        ),
        (NET, ("--limit", "0"), "limit 0 leaves no image"),
        (NET, ("--objective", "era(beta=-1)"), "beta is -1"),
        (NET, ("--objective", "robust(sigma=0.1)"), "no field 'sigma'"),
        (NET, ("--objective", "cra(sigma=0)"), "sigma > 0"),
        (NET, ("--objective", "era(beta=1"), "')' or a comma is missing"),
        (NET, ("--objective", "era(ramp=ramp(start=0.5, end=0.2))"), "must ascend"),
        (NET, ("--augment", "x"), "augmentation 'x' is unknown"),
        (NET, ("--average", "x"), "average 'x' is unknown"),
        (NET, ("--schedule", "x"), "schedule 'x' is unknown"),
        (NET, ("--extra", "digits"), "give both"),
        (NET, ("--teacher", "x"), "give both"),
    ],
)
def test_bad_words_are_one_sentence_and_leave_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], model: str, words: tuple[str, ...], says: str
) -> None:
    assert says in refused(capsys, model, *words)
    assert not (folder / "out").exists()


def test_a_share_of_nothing_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "train",
                "small(channels=1, size=8)",
                "--data",
                "digits",
                "--extra-share",
                "0.3",
                "--out",
                str(tmp_path / "m"),
            ]
        )
    assert stop.value.code == 2
    assert "--extra-share is a share of --extra" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(("model", "field"), [("small", "size"), ("mlp", "shape")])
def test_a_new_network_takes_the_images_as_they_are(folder: Path, model: str, field: str) -> None:
    train(model, "net", "--objective", "standard")
    config = read_card(Path("net/model.safetensors")).architecture
    assert config.input_shape == (1, 8, 8)
    assert config.classes == 10
    assert hasattr(config, field)


def test_a_new_network_learns_and_a_finished_one_is_tuned_gently(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(NET, "net", "--objective", "standard")
    assert "of 269 images to validate" in capsys.readouterr().err
    train("net/model.safetensors", "tuned", "--objective", "standard")
    rates = []
    for name in ("net", "tuned"):
        (log,) = folder.glob(f"{name}/*.jsonl")
        rates.append(json.loads(log.read_text().splitlines()[0])["lr"])
    assert rates == [0.1, 0.001]


def test_what_is_typed_wins_over_what_the_images_say(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "cannot read images" in refused(capsys, "small(channels=3)")
