"""Threads: as many as the work feeds, none left changed, and what was set by hand wins."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from recuse.attacks import Apgd
from recuse.data import Digits
from recuse.evaluation import Evaluation, evaluate
from recuse.models import SmallConvNet, build_seeded
from recuse.recipes import recipe
from recuse.threads import VARIABLES, multiply_adds, suitable_threads, using_threads
from recuse.training import fit

IMAGE = torch.zeros(1, 3, 8, 8)


@pytest.fixture
def four_threads(monkeypatch):
    """A process that torch gives four threads, and nobody said how many."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with using_threads(4):
        yield
        assert torch.get_num_threads() == 4


def network(channels):
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * channels, 5)
    )


def test_work_is_counted_by_hand():
    model = network(7).train()
    assert multiply_adds(model, IMAGE) == 7 * 64 * 27 + 64 * 7 * 5
    assert model.training
    assert not model[0]._forward_hooks


@pytest.mark.parametrize(
    ("rows", "threads"),
    [(1, 1), (2_300, 1), (4_600, 2), (8_000, 3), (100_000, 4)],
)
def test_more_work_feeds_more_threads(four_threads, rows, threads):
    model = network(7)  # 14,336 multiplications an image
    assert multiply_adds(model, IMAGE) * 2_300 < 33e6
    assert suitable_threads(model, IMAGE, rows) == threads


@pytest.mark.parametrize("name", VARIABLES)
def test_what_was_set_by_hand_wins(four_threads, monkeypatch, name):
    monkeypatch.setenv(name, "4")
    assert suitable_threads(network(7), IMAGE, 1) == 4


def test_unknown_work_leaves_the_threads_alone(four_threads):
    assert suitable_threads(nn.Flatten(), IMAGE, 1) == 4


def test_an_error_leaves_no_threads_changed():
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="stop"), using_threads(before + 1):
        raise ValueError("stop")
    assert torch.get_num_threads() == before


def test_digits_are_trained_and_judged_by_one_thread(four_threads, tmp_path):
    seen = set()

    def look(task, done, total, note=""):
        seen.add((task, torch.get_num_threads()))

    splits = Digits().load()
    plan = recipe("digits", epochs=1).models[0]
    config = replace(plan.train, epochs=1)
    model = build_seeded(SmallConvNet(channels=1, size=8), 0)
    train, validation = splits.train.head(128), splits.validation.head(20)
    fit(model, train, validation, config, tmp_path / "fit", name="it", progress=look)
    evaluation = Evaluation("linf", (0.05,), Apgd(steps=2))
    test = splits.test.head(40)
    evaluate(model, test, evaluation, name="it", records=tmp_path, progress=look)
    assert seen == {("train it", 1), ("attack it", 1)}


RUN = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
from recuse.recipes import RunLocation, recipe, run

wall, processor = time.perf_counter(), time.process_time()
config = recipe("digits", epochs=1, limit=60)
run(replace(config, models=config.models[:3]), RunLocation(Path(sys.argv[1])))
print(json.dumps([time.perf_counter() - wall, time.process_time() - processor]))
"""


@pytest.mark.slow
def test_a_run_of_the_digits_takes_one_processor(tmp_path):
    free = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    command = [sys.executable, "-c", RUN, str(tmp_path / "run")]
    done = subprocess.run(command, env=free, check=True, capture_output=True, text=True)
    wall, processor = json.loads(done.stdout)
    assert processor <= 1.3 * wall
    written = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert set(written["threads"]) == {"core", "trades", "era-3"}
    assert all(count == {"judge": 1, "train": 1} for count in written["threads"].values())
