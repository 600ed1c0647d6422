"""Where commands compute, as typed; and how they stop."""

import math
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from recuse.cli import main as module
from recuse.cli import options
from recuse.cli.arguments import Computing
from recuse.cli.main import main
from recuse.engine import Processes, RayTasks, Retries
from recuse.errors import ConfigError


def fails(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--engine", "slurm"], "engine 'slurm' is unknown; take local or ray"),
        (["--address", "host:1"], "add --engine ray"),
        (["--cpus", "2"], "--cpus is of a Ray cluster; add --engine ray"),
        (["--gpus", "0.5"], "--gpus is of a Ray cluster; add --engine ray"),
        (["--gpus", "1", "--engine", "ray", "--device", "cpu"], "a GPU is for --device cuda"),
        (["--cpus", "0", "--engine", "ray"], "give some processors"),
        (["--workers", "0"], "give 1 or more"),
        (["--shard-size", "0"], "give 1 or more"),
        (["--patience", "60"], "add --workers 2"),
        (["--patience", "0", "--workers", "2"], "some patience"),
    ],
)
def test_an_engine_that_cannot_be_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (["evaluate", "m", "--data", "digits"], ["run", "digits"], ["certify", "m"]):
        assert sentence in fails([*verb, *words], capsys)


def test_ray_that_is_not_installed_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    words = ["sweep", "digits", "--over", "seed=0,1", "--quick", "--out", str(tmp_path)]
    assert "recuse[ray]" in fails([*words, "--engine", "ray"], capsys)


def test_patience_is_an_hour_unless_it_is_given() -> None:
    assert Computing(workers=2).chosen("cpu") == Processes(2, retries=Retries(patience=3600.0))
    assert Computing(workers=2, patience=7.0).chosen("cpu") == Processes(
        2, retries=Retries(patience=7.0)
    )
    endless = Retries(patience=math.inf)
    assert Computing("ray").chosen("cpu", retries=endless) == RayTasks(1, retries=endless)
    given = Computing("ray", patience=7.0).chosen("cpu", retries=endless)
    assert given == RayTasks(1, retries=Retries(patience=7.0))


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 0.0), ("cuda", 1.0), ("cuda:0", 1.0)])
def test_a_worker_of_a_cluster_gets_the_gpu_that_is_asked_for(
    device: str, gpus: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "device", torch.device)  # as if there were GPUs here
    assert Computing("ray").chosen(device) == RayTasks(1, gpus=gpus)
    if gpus:
        shared = Computing("ray", cpus=4.0, gpus=0.5).chosen(device)
        assert shared == RayTasks(1, cpus=4.0, gpus=0.5)
        for wrong in (1.5, -1.0, math.nan, math.inf):
            with pytest.raises(ConfigError, match="a part of one GPU or whole ones"):
                Computing("ray", gpus=wrong).chosen(device)
        with pytest.raises(ConfigError, match="a GPU is for --device cuda"):
            Computing("ray", gpus=0.0).chosen(device)
    with pytest.raises(ConfigError, match="write --device cuda"):
        Computing("ray").chosen("cuda:1")


def test_a_sweep_takes_no_size_of_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "digits", "--over", "seed=0,1", "--shard-size", "5"]
    assert "leave --shard-size out" in fails(words, capsys)


def test_a_sweep_over_an_unknown_field_lists_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    told = fails(["sweep", "digits", "--over", "objective.gammma=1"], capsys)
    assert "objective.beta" in told
    assert "needs axes" in fails(["sweep", "digits"], capsys)


def test_sigterm_stops_as_ctrl_c_does_and_exits_with_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cleaned = []

    def work() -> None:
        """Work until stopped."""
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        finally:
            cleaned.append(True)

    monkeypatch.setitem(module.VERBS, "show", work)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        main(["show"])
    assert stop.value.code == 3
    assert cleaned == [True]
    assert "the same command goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
