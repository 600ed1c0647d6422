"""Where commands compute, as typed; and how they stop."""

import os
import signal
import time
from pathlib import Path

import pytest

from recuse.cli import main as module
from recuse.cli.main import main


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
        (["--workers", "0"], "give 1 or more"),
        (["--shard-size", "0"], "give 1 or more"),
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
