"""The command line as a user meets it: every bad word is one sentence and exit code 2."""

import itertools
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import recuse
from recuse.cli.main import VERBS, main, one_sentence
from recuse.models import Mlp
from recuse.models.cards import card_for
from recuse.models.checkpoint import save_checkpoint
from recuse.recipes import recipe
from recuse.recipes.pipeline import claim_folder
from recuse.records import places
from recuse.records.hashes import records_hash
from recuse.records.places import place
from recuse.records.schema import Record
from recuse.records.store import read_records
from recuse.records.writing import Opened


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = Mlp(shape=(1, 8, 8), classes=10, width=8, hidden=1)
    path = tmp_path / "tiny.safetensors"
    card = card_for("tiny", config)
    save_checkpoint(path, card.build(), card)
    return path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.err.startswith("recuse: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"recuse {recuse.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nope"], "recipe 'nope' is unknown; known: digits"),
        (["run", "digits", "--speed", "9"], "--speed"),
        (["evaluate", "m:f", "--data", "digits", "--role", "boss"], "role 'boss' is unknown; take"),
        (["frobnicate"], "frobnicate"),
        (["run", "digits", "--threat", "2/255"], "has no norm"),
        (["run", "digits", "--seed", "x"], "--seed takes a whole number, not 'x'\n"),
        (["evaluate", "m", "--data", "d", "--seed", "1.5"], "takes a whole number, not '1.5'\n"),
        (
            ["train", "m", "--data", "d", "--out", "o", "--lr", "x"],
            "--lr takes a number, not 'x'\n",
        ),
        (["run", "digits", "--threat", "linf"], "threat 'linf' has no radius"),
        (["run", "digits", "--threat", "l2:"], "threat 'l2:' has no radius"),
        (["evaluate", "m", "--data", "digits", "--threat"], "no radius to judge at"),
        (["certify", "m", "--data", "digits", "--eps"], "no radius to judge at"),
        (["evaluate", "m", "--data", "digits", "--batch-size", "0"], "batch size 0 holds no"),
        (["evaluate", "m", "--data", "digits", "--batch-size", "-3"], "batch size -3 holds no"),
        (["data", "show", ""], "data set '' is unknown"),
        (["run", "digits", "--threat", "linf:-0.1"], "not negative"),
        (["run", "digits", "--threat", "linf:2"], "larger than 1"),
        (["run", "digits", "--threat", "l7:0.1"], "norm 'l7' is unknown"),
        (["run", "digits", "--device", "abacus"], "device 'abacus'"),
        (["run", "missing.json"], "missing.json"),
        (["evaluate", "missing.safetensors", "--data", "digits"], "missing.safetensors"),
        (["evaluate", "no_module:build", "--data", "digits"], "no_module"),
        (["train", "mlp", "--data", "digits", "--out", "o", "--objective", "x"], "objective 'x'"),
        (["train", "standard", "--data", "nowhere", "--out", "o"], "data set 'nowhere'"),
        (["show", "empty"], "no records below empty"),
        (["compose", "empty", "--eps", "2/255"], "no records below empty"),
    ],
)
def test_bad_words_are_one_sentence(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_one_sentence(
    tiny: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny.read_bytes()[:200])
    assert "cut.safetensors" in refused(capsys, "evaluate", str(cut), "--data", "digits")
    table = tmp_path / "cut.parquet"
    table.write_bytes(b"PAR1 and then nothing")
    assert "cut.parquet" in refused(capsys, "evaluate", str(tiny), "--data", str(table))


def test_a_folder_of_another_run_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    claim_folder(recipe("digits", seed=1), out)
    before = (out / "config.json").read_bytes()
    message = refused(capsys, "run", "digits", "--out", str(out))
    assert "holds a different run" in message
    assert (out / "config.json").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    assert "not empty" in refused(capsys, "run", "digits", "--out", str(tmp_path / "mine"))


def test_a_full_disk_is_one_sentence(
    tiny: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    words = ["evaluate", str(tiny), "--data", "digits", "--threat", "linf:0.1", "--limit", "2"]
    message = refused(capsys, *words, "--out", str(tmp_path / "out"))
    assert "No space left on device" in message
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_evaluate_show_compose_and_report(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [
        "--data",
        "digits",
        "--threat",
        "linf:0.05",
        "--limit",
        "20",
        "--attack",
        "apgd(steps=5)",
    ]
    named = ["--name", "a", "--role", "core"]
    main(["evaluate", str(tiny), *words, "--out", str(out), *named])
    assert "worst probabilities" not in capsys.readouterr().out
    main(["evaluate", str(tiny), *words, "--out", str(tmp_path / "worst"), *named, "--margins"])
    (judged,) = read_records(tmp_path / "worst")
    spent = [judged.frame[n].mean() for n in ("forwards", "backwards", "margin_passes")]
    said = f"{sum(spent[:2]):.0f} for verdicts, {spent[2]:.0f} for the worst probabilities"
    assert f"a: forward and backward passes an image: {said}" in capsys.readouterr().out
    torch.manual_seed(1)
    other = card_for("other", Mlp(shape=(1, 8, 8), classes=10, width=8, hidden=1))
    save_checkpoint(tmp_path / "b.safetensors", other.build(), other)
    main(["evaluate", str(tmp_path / "b.safetensors"), *words, "--out", str(out), "--name", "b"])
    assert "precision 'half' is unknown" in refused(
        capsys, "evaluate", str(tiny), *words, "--out", str(out), "--precision", "half"
    )
    main(["show", str(out)])
    assert "linf:0.1" in capsys.readouterr().out
    numbers = tmp_path / "composed.json"
    main(["compose", str(out), "--eps", "0.05", "--out", str(numbers)])
    (composed,) = json.loads(numbers.read_text())
    assert composed["name"] == "b → a"
    assert composed["sound"] <= composed["paper"]
    main(["report", str(out), "--out", str(tmp_path / "report.html")])
    assert "<html" in (tmp_path / "report.html").read_text()


def test_checkpoints_and_runs_behind_urls_are_those_on_a_disk(
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"memory://bucket{tmp_path}"
    for root in ("here", url):
        model = place(f"{root}/a.safetensors")
        model.parent.mkdir(exist_ok=True)
        model.write_bytes(tiny.read_bytes())
        words = ["--data", "digits", "--limit", "8", "--attack", "apgd(steps=2)"]
        words += ["--threat", "linf:0.05", "--out", f"{root}/run"]
        main(["evaluate", str(model), *words])
        capsys.readouterr()
        main(["records", "hash", f"{root}/run"])
    # The second as the first, and nothing in a folder of this machine that is called as the URL.
    assert capsys.readouterr().out.strip() == records_hash(read_records(Path("here/run")))
    files = [
        {str(p)[len(root) :]: p.read_bytes() for p in place(root).rglob("*") if p.is_file()}
        for root in ("here", url)
    ]
    assert len(files[0]) == 4
    assert files[0] == files[1]
    assert [p.name for p in tmp_path.iterdir() if "memory" in p.name] == []


def test_a_store_that_goes_away_stops_the_work_with_3(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("connection refused")

    monkeypatch.setattr(places, "PATIENCE_S", 0.0)
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.pipe_file", away)
    words = ["--data", "digits", "--limit", "4", "--attack", "apgd(steps=2)"]
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(tiny), *words, "--out", "memory://away/run"])
    assert stop.value.code == 3
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "connection refused" in told
    assert "the same command goes on" in told


def test_a_run_of_some_minutes_stops_where_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", "digits", "--quick", "--epochs", "1", "--limit", "4"]
    command = [*words, "--out", str(tmp_path), "--minutes", "1"]
    clock = itertools.count(time.monotonic(), 7.0)
    with monkeypatch.context() as patched:
        patched.setattr("recuse.progress.time.monotonic", lambda: next(clock))
        with pytest.raises(SystemExit) as stop:
            main(command)
    assert stop.value.code == 3
    said = capsys.readouterr().err
    assert "stopped after 1 minutes in train core (" in said
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
    assert (tmp_path / "training/core/state.pt").is_file()
    assert "more than 0" in refused(capsys, *words, "--minutes", "0")


def test_rows_that_go_while_they_are_judged_are_no_result(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Opened.finish

    def robbed(opened: Opened) -> Record:
        return replace(finish(opened), frame=opened.shards.frame().head(3))

    monkeypatch.setattr(Opened, "finish", robbed)
    words = ["--data", "digits", "--limit", "4", "--attack", "apgd(steps=2)"]
    told = refused(capsys, "evaluate", str(tiny), *words, "--out", "memory://robbed/run")
    assert "lost 1 rows to another command" in told


def test_every_verb_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    def walk(table: dict, words: list[str]) -> None:
        for name, entry in table.items():
            if isinstance(entry, dict):
                walk(entry, [*words, name])
                continue
            with pytest.raises(SystemExit) as stop:
                main([*words, name, "--help"])
            assert stop.value.code == 0
            assert "usage: recuse" in capsys.readouterr().out

    walk(VERBS, [])


def test_a_bare_command_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([])
    assert not stop.value.code
    assert "recuse audit MODEL DATA" in " ".join(capsys.readouterr().out.split())


def test_flags_that_are_off_have_no_negative_twin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["build", "--help"])
    said = capsys.readouterr().out
    assert "--no-core" in said
    assert "--no-no-core" not in said


def test_a_frame_of_text_becomes_one_line() -> None:
    framed = (
        "╭─ Parsing error ─╮\n│ Unrecognized options: --x │\n│ ─────── │\n│ see --help │\n╰───╯\n"
    )
    assert one_sentence(framed) == "Unrecognized options: --x see --help"


def every_command(table: dict, *before: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, entry in table.items():
        found.append((*before, name))
        found += every_command(entry, *before, name) if isinstance(entry, dict) else []
    return found


@pytest.mark.parametrize("command", [(), *every_command(VERBS)], ids=" ".join)
def test_help_is_in_words_that_a_newcomer_knows(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    shown = capsys.readouterr().out
    assert not stop.value.code
    for riddle in ("{None}", "(default: )", "(default: None)", "NoneType"):
        assert riddle not in shown


def test_a_reader_that_has_seen_enough_ends_the_program_quietly() -> None:
    program = f"{sys.executable} -c 'from recuse.cli.main import main; main([\"values\"])'"
    done = subprocess.run(["bash", "-c", f"{program} | head -c 1"], capture_output=True, text=True)
    assert done.stderr == ""
