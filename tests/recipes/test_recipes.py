"""Recipes: values that survive JSON, and a whole run that can be stopped anywhere."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from recuse.cli.main import main
from recuse.errors import ConfigError
from recuse.recipes import RECIPES, Place, config_classes, recipe, run
from recuse.records.store import read_records
from recuse.serialize import from_plain, to_plain
from recuse.threat import Threat


@pytest.mark.parametrize("name", RECIPES)
def test_config_to_json_to_config_is_the_identity(name: str) -> None:
    config = recipe(name, seed=3)
    assert from_plain(json.loads(json.dumps(to_plain(config))), config_classes()) == config


@pytest.mark.parametrize("name", RECIPES)
def test_settings_reach_what_they_name(name: str) -> None:
    config = recipe(name, threat=Threat("linf", 0.02), epochs=1, limit=7)
    trained = [plan.train for plan in config.models if plan.train]
    assert {plan.threat for plan in trained} == {Threat("linf", 0.02)}
    assert {plan.epochs for plan in trained} == {1}
    assert config.evaluation.limit == 7
    assert max(config.eps) == 0.02


def test_robust_selection_cannot_lack_its_doubled_radius() -> None:
    config = recipe("digits")
    with pytest.raises(ConfigError, match="doubled radius"):
        replace(config, eps=(0.07,))


class StoppedError(Exception):
    pass


def small() -> object:
    config = recipe("digits", epochs=2, limit=30)
    return replace(config, models=config.models[:3], gallery=4)


def frames(out: Path) -> dict[str, pl.DataFrame]:
    return {record.meta.model: record.frame for record in read_records(out)}


def test_a_run_stopped_anywhere_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = Place(tmp_path / "whole")
    report = run(small(), whole)
    assert report.stat().st_size > 100_000
    stopped = Place(tmp_path / "stopped")
    for stop_at in ("train trades", "attack trades", "train era-3"):

        def stop(task: str, done: int, total: int, note: str = "", at: str = stop_at) -> None:
            if task == at and done:
                raise StoppedError

        with pytest.raises(StoppedError):
            run(small(), stopped, progress=stop)
    run(small(), stopped)
    expected, found = frames(whole.out), frames(stopped.out)
    assert expected.keys() == found.keys() == {"core", "trades", "era-3"}
    for name in expected:
        assert expected[name].equals(found[name])


def test_a_kept_config_runs_again(tmp_path: Path) -> None:
    first = Place(tmp_path / "first")
    config = replace(recipe("digits", epochs=1, limit=10), gallery=0)
    run(replace(config, models=config.models[:2]), first)
    main(["run", str(first.out / "config.json"), "--out", str(tmp_path / "again")])
    for name, frame in frames(first.out).items():
        assert frame.equals(frames(tmp_path / "again")[name])


def test_decision_maps_and_repetitions_reach_the_report(tmp_path: Path) -> None:
    config = recipe("gaussians", epochs=1, limit=40)
    config = replace(config, models=(*config.models[:3], config.models[4]), grid=20)
    text = run(config, Place(tmp_path / "plane")).read_text()
    assert "Over several seeds" in text
    assert "regions" in text
