"""Recipes: values that survive JSON, and a whole run that can be stopped anywhere."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from inspect import signature
from pathlib import Path

import polars as pl
import pytest

from recuse.attacks import Apgd, MaskingCheck, Pgd, Square
from recuse.certify import Crown, Ibp
from recuse.cli.main import main
from recuse.composition import AdaptiveAdversary
from recuse.errors import ConfigError
from recuse.evaluation.attack_cascade import CascadeAttack
from recuse.evaluation.certify_dataset import Certification
from recuse.models.checkpoint import load_checkpoint, weights_sha256
from recuse.recipes import RECIPES, CompositionPlan, RunLocation, config_classes, recipe, run
from recuse.recipes.config import RunConfig
from recuse.records.layout import COMPOSITION_RATES
from recuse.records.run_folder import attack_records
from recuse.records.store import read_records
from recuse.report.run.report import build_report
from recuse.selectors import RobustnessIndicator
from recuse.serialize import from_plain, to_plain
from recuse.threat import Threat


@pytest.mark.parametrize("name", RECIPES)
def test_config_to_json_to_config_is_the_identity(name: str) -> None:
    config = recipe(name, seed=3)
    assert from_plain(json.loads(json.dumps(to_plain(config))), config_classes()) == config


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(
    "name", [n for n in RECIPES if "threat" in signature(RECIPES[n]).parameters]
)
def test_settings_reach_what_they_name(name: str, quick: bool) -> None:
    config = recipe(name, threat=Threat("linf", 0.02), epochs=1, limit=7, quick=quick)
    trained = [plan.train for plan in config.models if plan.train]
    assert {plan.threat for plan in trained} == {Threat("linf", 0.02)}
    assert {plan.epochs for plan in trained} == {1}
    assert config.evaluation.limit == 7
    assert max(config.eps) == 0.02


def test_robust_selection_cannot_lack_its_doubled_radius() -> None:
    config = recipe("digits")
    with pytest.raises(ConfigError, match="doubled radius"):
        replace(config, eps=(0.07,))


def test_a_recipe_names_the_setting_that_it_fixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "fixed", lambda quick=False: recipe("digits", quick=quick))
    assert recipe("fixed", quick=True) == recipe("digits", quick=True)
    with pytest.raises(ConfigError, match="'fixed' fixes its epochs"):
        recipe("fixed", epochs=3)


def test_a_composition_names_models_of_the_run_and_a_selector_a_stage() -> None:
    config, threat = recipe("digits"), Threat("linf", 0.05)
    with pytest.raises(ConfigError, match="one selector a stage: 1 stages, 0 selectors"):
        CompositionPlan(("trades",), (), "core", threat)
    plan = CompositionPlan(("trade",), (RobustnessIndicator(threat, Apgd()),), "core", threat)
    with pytest.raises(ConfigError, match="names 'trade', which the run has not"):
        replace(config, attacks=(plan,))


class StoppedError(Exception):
    pass


def in_few_steps(config: RunConfig) -> RunConfig:
    """The same epochs in batches of 512, and short searches."""
    plans = [replace(m, train=m.train and replace(m.train, batch_size=512)) for m in config.models]
    check = MaskingCheck(few=Apgd(steps=2), black=Square(queries=10))
    judgements = [replace(j, attack=Apgd(steps=5), recheck=check) for j in config.judgements]
    return replace(config, models=tuple(plans), judgements=tuple(judgements))


def small() -> RunConfig:
    config = recipe("digits", epochs=2, limit=12)
    return in_few_steps(replace(config, models=config.models[:3], gallery=4))


def frames(out: Path) -> dict[str, pl.DataFrame]:
    return {record.meta.model: record.frame for record in read_records(out)}


def test_a_run_stopped_anywhere_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = RunLocation(tmp_path / "whole")
    report = run(small(), whole)
    assert report.stat().st_size > 100_000
    stopped = RunLocation(tmp_path / "stopped")
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


def test_a_run_takes_in_more_networks_and_loses_none(tmp_path: Path) -> None:
    config = recipe("digits", quick=True, epochs=1, limit=5)
    whole = in_few_steps(replace(config, gallery=0))
    core, trades, era = whole.models
    place = RunLocation(tmp_path)
    run(replace(whole, models=(core, trades)), place)
    before = {name: place.checkpoint(name).stat().st_mtime_ns for name in ("core", "trades")}
    run(whole, place)
    assert frames(tmp_path).keys() == {"core", "trades", era.name}
    assert before == {name: place.checkpoint(name).stat().st_mtime_ns for name in before}
    changed = replace(trades, train=replace(trades.train, lr=0.5))
    for other in ((core, trades), (core, changed, era)):  # fewer, and another one
        with pytest.raises(ConfigError, match="holds a different run"):
            run(replace(whole, models=other), place)


def test_a_kept_config_runs_again(tmp_path: Path) -> None:
    first = RunLocation(tmp_path / "first")
    config = replace(recipe("digits", epochs=1, limit=10), gallery=0)
    run(in_few_steps(replace(config, models=config.models[:2])), first)
    main(["run", str(first.out / "config.json"), "--out", str(tmp_path / "again")])
    for name, frame in frames(first.out).items():
        assert frame.equals(frames(tmp_path / "again")[name])


def test_decision_maps_and_repetitions_reach_the_report(tmp_path: Path) -> None:
    config = recipe("gaussians", epochs=1, limit=40)
    config = replace(config, models=(*config.models[:3], config.models[4]), grid=20)
    text = run(in_few_steps(config), RunLocation(tmp_path / "plane")).read_text()
    assert "Over several seeds" in text
    assert "regions" in text


def test_certificates_and_attacks_on_compositions_are_parts_of_a_run(tmp_path: Path) -> None:
    threat = Threat("linf", 0.05)
    config = recipe("digits", quick=True, epochs=2, limit=10)
    core, trades, _ = config.models
    proof = Certification(Ibp(), (0.01, 0.05), limit=10)
    twice = replace(trades, judgements=(*config.judgements, proof))
    adversary = AdaptiveAdversary(steps=2, attacks=(Apgd(steps=2),))
    attack = CascadeAttack(adversary, limit=6)
    stage = RobustnessIndicator(threat, Apgd(steps=2))
    plan = CompositionPlan(("trades",), (stage,), "core", threat, attack)
    config = replace(config, models=(core, twice), attacks=(plan,), gallery=0)
    assert from_plain(json.loads(json.dumps(to_plain(config))), config_classes()) == config
    text = run(config, RunLocation(tmp_path)).read_text()
    found = sorted((r.meta.model, r.meta.method) for r in read_records(tmp_path))
    assert found == [("core", "apgd-ce"), ("trades", "apgd-ce"), ("trades", "ibp")]
    (attacked,) = attack_records(tmp_path)
    assert attacked.meta.model == "trades → core"
    assert attacked.frame.height == 6
    assert "Certificates" in text
    kept = json.loads((tmp_path / COMPOSITION_RATES).read_text())
    assert [(entry["name"], entry["images"]) for entry in kept] == [("trades → core", 6)]
    assert 0 <= kept[0]["attacked"] <= kept[0]["natural"] <= 1


def test_a_network_that_others_start_from_need_not_be_judged(tmp_path: Path) -> None:
    config = recipe("digits", quick=True, epochs=1, limit=5)
    core, trades, era = config.models
    plans = (core, replace(trades, judgements=()), era)
    run(in_few_steps(replace(config, models=plans, gallery=0)), RunLocation(tmp_path))
    assert frames(tmp_path).keys() == {"core", era.name}


def test_a_checkpoint_in_half_precision_says_what_was_measured_of_it(tmp_path: Path) -> None:
    config = recipe("digits", quick=True, epochs=1, limit=10)
    plans = (config.models[0], replace(config.models[1], half=True))
    place = RunLocation(tmp_path)
    run(in_few_steps(replace(config, models=plans, gallery=0)), place)
    sizes = [place.checkpoint(name).stat().st_size for name in ("core", "trades")]
    assert sizes[1] < 0.6 * sizes[0]
    network, card = load_checkpoint(place.checkpoint("trades"))
    (record,) = (r for r in read_records(tmp_path) if r.meta.model == "trades")
    assert record.meta.weights == card.sha256 == weights_sha256(network)
    right = record.frame["accurate"]
    assert card.accuracy["natural_accuracy"] == right.mean()
    assert card.accuracy["robust_accuracy@linf:0.1"] == (right & record.frame["robust@0.1"]).mean()
    assert card.notes["measured on"] == "10 images of digits/test"
    assert card.notes["recipe"] == "digits"
    took = card.notes["training took"]
    assert re.fullmatch(r"\d+ s on .+, fp32, 1 epoch of \d+ passes an image", took)
    assert (card.norm, card.eps) == ("linf", "0.1")
    _, core = load_checkpoint(place.checkpoint("core"))
    assert (core.norm, core.eps) == ("", ""), "no attack took part in its training"
    before = place.checkpoint("trades").read_bytes()
    run(in_few_steps(replace(config, models=plans, gallery=0)), place)
    assert place.checkpoint("trades").read_bytes() == before


def test_a_card_counts_what_any_of_its_attacks_broke(tmp_path: Path) -> None:
    config = recipe("digits", quick=True, epochs=3, limit=40)
    (strong,) = config.judgements
    weak = replace(strong, attack=Pgd(steps=1, step_size_relative=0.5), recheck=None)
    config = replace(config, models=config.models[:2], judgements=(strong, weak), gallery=0)
    run(config, RunLocation(tmp_path))
    _, card = load_checkpoint(RunLocation(tmp_path).checkpoint("core"))
    judged = (record for record in read_records(tmp_path) if record.meta.model == "core")
    one, other = (record.frame.sort("sample_id") for record in judged)
    robust = [frame["accurate"] & frame["robust@0.05"] for frame in (one, other)]
    unbroken = (robust[0] & robust[1]).fill_null(False).mean()
    assert robust[0].mean() != robust[1].mean()
    assert card.accuracy["robust_accuracy@linf:0.05"] == unbroken
    assert sorted(card.notes["measured by"].split(", ")) == ["apgd-ce", "pgd-ce"]


def test_a_card_says_what_the_tightest_bounds_prove(tmp_path: Path) -> None:
    config = recipe("digits", quick=True, epochs=3, limit=20)
    (attack,) = config.judgements
    proofs = [Certification(bounds, (0.005,), limit=20) for bounds in (Crown(), Ibp())]
    config = replace(config, models=config.models[:2], judgements=(attack, *proofs), gallery=0)
    run(config, RunLocation(tmp_path))
    frames = {
        r.meta.method: r.frame
        for r in read_records(tmp_path)
        if r.has("certified", 0.005) and r.meta.model == "core"
    }
    tight, loose = (
        (frame["accurate"] & frame["certified@0.005"]).mean()
        for frame in (frames["crown"], frames["ibp"])
    )
    assert tight > loose
    _, card = load_checkpoint(RunLocation(tmp_path).checkpoint("core"))
    assert card.accuracy["certified_accuracy@linf:0.005"] == tight
    assert card.notes["measured by"] == "apgd-ce, crown, ibp"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_demo_says_first_that_a_robust_model_alone_wins(seed: int, tmp_path: Path) -> None:
    """What README says of the demo is no luck of one seed."""
    # Not in this process, whose runtime type checks take as long as the run.
    words = ["run", "digits", "--seed", str(seed), "--out", str(tmp_path / "run")]
    subprocess.run([sys.executable, "-m", "recuse", *words], check=True)
    first, second, *_ = build_report([tmp_path / "run"]).summary
    sentence = r"The better choice {} is a robust model alone, (trades|era-[0-9.]+), rather than"
    assert re.match(sentence.format("here"), first)
    assert re.match(sentence.format("at linf 0.1"), second)
