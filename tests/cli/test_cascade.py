"""``recuse cascade search`` as a user types it: what it writes, and what it refuses."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from recuse.analysis.frontier import LOSSES
from recuse.cli.main import main
from recuse.cli.searched import searched
from recuse.records.schema import RecordMeta, make_record
from recuse.records.store import write_record

SAMPLES = 200
# Of made-up networks for which the best of all systems does worse elsewhere than that of one kind.
SEED = 0


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A core that is always right and never robust, and two robust models that share the work."""
    half = np.arange(SAMPLES) < SAMPLES // 2
    models = {
        "core": ("std", np.ones(SAMPLES, bool), np.zeros(SAMPLES, bool)),
        "first": ("era", np.ones(SAMPLES, bool), half),
        "second": ("era", np.ones(SAMPLES, bool), ~half),
        "wrong": ("era", np.zeros(SAMPLES, bool), np.ones(SAMPLES, bool)),
    }
    for name, (loss, accurate, robust) in models.items():
        meta = RecordMeta(
            model=name,
            dataset="signs/test",
            method="apgd",
            norm="linf",
            radii=("2/255", "4/255"),
            tags={"loss": loss},
        )
        columns = {
            "sample_id": [f"{i:03d}" for i in range(SAMPLES)],
            "accurate": accurate,
            "robust@2/255": robust,
            "robust@4/255": robust,
        }
        write_record(tmp_path / "run" / "records", make_record(meta, columns))
    return tmp_path / "run"


def search(run: Path, *words: str) -> None:
    main(["cascade", "search", "--logs", str(run), "--dataset", "signs", "--eps", "2/255", *words])


def test_two_stages_that_share_the_work_are_found(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "best.json"
    search(run, "--stages", "2", "--splits", "6", "--json", str(out))
    found = json.loads(out.read_text())
    assert len(found["splits"]) == 6
    for split in found["splits"]:
        assert set(split["stages"]) == {"first", "second"}
        assert (split["natural"], split["sound"], split["core_natural"]) == (1.0, 1.0, 1.0)
    assert found["mean"]["sound"] == 1.0
    said = capsys.readouterr().out
    assert "loss on the reporting half: 0.0 points; at most the 0 asked for in 6 of 6" in said
    search(run, "--stages", "1", "--splits", "6", "--json", str(out))
    alone = json.loads(out.read_text())["mean"]
    assert 0.4 < alone["sound"] < 0.6


def test_the_front_goes_from_the_core_to_the_robust_networks(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "best.json"
    search(run, "--stages", "1", "--splits", "4", "--front", "--json", str(out))
    found = json.loads(out.read_text())
    points = found["front"]
    assert [point["max_natural_loss"] for point in points] == list(LOSSES)
    # Asked for alike, found alike; and where more may be given up, no less is robust.
    assert points[0]["mean"] == found["mean"]
    assert sorted(point["mean"]["sound"] for point in points) == [
        p["mean"]["sound"] for p in points
    ]
    assert {point["system"] for point in points} <= {"first → core", "second → core"}
    said = capsys.readouterr().out
    assert all(f"{100 * loss:g} points" in said for loss in LOSSES)


def test_where_one_mechanism_alone_is_better_it_is_what_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], of_two_classes
) -> None:
    """The best of more systems on one half is not the best on the other."""
    run, out = tmp_path / "run", tmp_path / "best.json"
    for record in (
        of_two_classes("core", "core", SEED, sure=0.95, moves=1.5, eps="2/255"),
        of_two_classes("a", "robust", SEED + 1, sure=0.8, moves=0.3, eps="2/255"),
        of_two_classes("b", "robust", SEED + 2, sure=0.8, moves=0.3, eps="2/255"),
    ):
        write_record(run / "records", record)
    words = ["--mechanisms", "indicator", "softmax", "one-hot-mixture", "--thresholds", "20"]
    words += ["--max-natural-loss", "0.05", "--splits", "10", "--json", str(out)]
    search(run, *words)
    found, said = json.loads(out.read_text()), " ".join(capsys.readouterr().out.split())
    taken = found["taken"]
    assert taken["mean"]["natural"] >= found["mean"]["natural"]
    assert taken["mean"]["sound"] >= found["mean"]["sound"]
    assert f"{taken['mechanism']} alone is better than all in one search: +" in said
    systems = Counter(tuple(split["stages"]) for split in taken["splits"])
    ((stages, times),) = systems.most_common(1)
    assert f"{times}× {' → '.join((*stages, 'core'))}" in said
    names, _, core, *_ = searched(out, ())
    assert (*names, core) == tuple(
        f"{name.partition(':')[0]}={name.partition(':')[0]}" for name in (*stages, "core")
    )
    search(run, *words, "--together")
    assert "is better than all in one search" not in capsys.readouterr().out
    assert json.loads(out.read_text()) == {k: v for k, v in found.items() if k != "taken"}


def test_mixtures_alone_may_be_searched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], of_two_classes
) -> None:
    run = tmp_path / "run"
    for record in (
        of_two_classes("core", "core", 0, sure=0.95, moves=1.5, eps="2/255"),
        of_two_classes("a", "robust", 1, sure=0.8, moves=0.3, eps="2/255"),
    ):
        write_record(run / "records", record)
    search(run, "--mechanisms", "one-hot-mixture", "--max-natural-loss", "0.02", "--splits", "4")
    said = capsys.readouterr().out
    assert "signs/test, linf 2/255: 1 models, core core" in said
    assert "× one-hot-mixture(a, core; 0." in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stages", "0"], "stage"),
        (["--splits", "0"], "split"),
        (["--max-natural-loss", "-0.1"], "natural"),
        (["--sure", "1.5"], "how sure"),
        (["--core", "nobody"], "nobody"),
        (["--dataset", "elsewhere"], "elsewhere"),
        (["--count", "guessed"], "sound or attacked"),
        (["--count", "attacked"], "recuse attack"),
        (["--mechanisms", "cpr"], "no sound count"),
        (["--mechanisms", "entropy"], "recuse evaluate --margins"),
    ],
)
def test_senseless_searches_are_one_sentence_and_write_nothing(
    run: Path,
    tmp_path: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        search(run, "--json", str(tmp_path / "out.json"), *words)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("recuse: ")
    assert message in said.splitlines()[0]
    assert not (tmp_path / "out.json").exists()


@pytest.mark.slow
def test_two_stages_beat_one_on_the_published_logs(
    shared_reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Traffic signs at 2/255, no natural loss allowed on the choosing half: the promised gain."""
    sound = {}
    for stages in (1, 2):
        out = tmp_path / f"{stages}.json"
        logs = ["--logs", str(shared_reference), "--dataset", "mtsd_l", "--eps", "2/255"]
        main(["cascade", "search", *logs, "--stages", str(stages), "--json", str(out)])
        sound[stages] = json.loads(out.read_text())["mean"]["sound"]
    assert sound[2] - sound[1] >= 0.027
