"""What makes a benchmark run fail: exact rows beyond their goal, never seconds."""

import importlib
import json
import sys
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(_FOLDER))
    loaded = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - loaded:
        if getattr(sys.modules[name], "__file__", "") and str(_FOLDER) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def test_only_exact_rows_can_fail_a_run(load):
    run_all = load("run_all")
    rows = [
        {"name": "slow", "kind": "time", "ours": 2.0, "goal": 7.0, "ok": False},
        {"name": "grown", "kind": "passes", "ours": 30.0, "goal": 27.0, "ok": False},
        {"name": "fits", "kind": "passes", "ours": 27.0, "goal": 27.0, "ok": True},
        {"name": "differs", "kind": "mismatches", "ours": 1, "goal": 0, "ok": False},
    ]
    assert [line.partition(":")[0] for line in run_all.failures(rows)] == ["grown", "differs"]


def test_rows_know_whether_they_meet_their_goal(load):
    harness = load("harness")
    assert harness.Row("t", 1.0, 8.0, 8.0, 7.0).ok
    assert not harness.Row("t", 1.0, 6.0, 6.0, 7.0).ok
    assert harness.Row("p", 27.0, 36.0, 1.3, 27.0, "passes").ok
    assert not harness.Row("p", 28.0, 36.0, 1.3, 27.0, "passes").ok
    timing = harness.Timing((1.0, 5.0, 1.0), (8.0, 8.0, 2.0))
    assert timing.ratio == 8.0  # of medians: one slow run decides nothing


def test_accepted_passes_become_the_gate(load, tmp_path, monkeypatch):
    run_all, gates = load("run_all"), load("gates")
    monkeypatch.setattr(run_all, "HERE", tmp_path)
    monkeypatch.setattr(gates, "_PATH", tmp_path / "gates.json")
    assert gates.gate("x: passes", 83.0) == 83.0
    run_all.accept([{"name": "x: passes", "ours": 25.0}, {"name": "x", "ours": 1.5}])
    assert json.loads((tmp_path / "gates.json").read_text()) == {"x: passes": 25.0}
    assert 25.0 <= gates.gate("x: passes", 83.0) < 26.0
    assert gates.gate("y: passes", 83.0) == 83.0


def test_alternate_runs_both_in_turn(load):
    harness, order = load("harness"), []
    harness.alternate(lambda: order.append("a"), lambda: order.append("b"), repeats=3)
    assert order == ["a", "b"] * 3


def test_rows_are_written_whole(load, tmp_path):
    harness = load("harness")
    path = tmp_path / "deep" / "rows.json"
    harness.write_rows(path, [harness.Row("t", 1.0, 8.0, 8.0, 7.0)], {"threads": 1})
    written = json.loads(path.read_text())
    assert written["rows"][0]["ok"] is True
    assert {"name", "ours", "anchor", "ratio", "goal", "ok"} <= set(written["rows"][0])
    assert written["environment"]["threads"] == 1
    assert list(path.parent.iterdir()) == [path]
