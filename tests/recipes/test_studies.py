"""The certified and the geometry study run through the pipeline, and go on where they stopped."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recuse.attacks import Apgd
from recuse.data import Cifar10, Gaussians
from recuse.errors import ConfigError, PausedError, RecordError
from recuse.evaluation.attack_certificates import CertificateAttack
from recuse.models.checkpoint import load_checkpoint
from recuse.models.zoo import load_model
from recuse.recipes import Earlier, ModelPlan, NewHead, RunConfig, RunLocation, recipe, run
from recuse.recipes.obtain import starting_point
from recuse.records.layout import NETWORK_ATTACKS, PAGE, REPORT, SLOPES
from recuse.records.store import read_records
from recuse.report.study import write_study
from recuse.threat import Threat
from recuse.training import Adversarial, LiteralEra, Standard

THREAT = Threat("linf", "2/255")


def tiny(config: RunConfig, epochs: int = 1) -> RunConfig:
    """The same study after hardly any training."""

    def shorter(plan: ModelPlan) -> ModelPlan:
        train = plan.train and replace(plan.train, epochs=epochs)
        return replace(plan, train=train)

    return replace(config, models=tuple(shorter(plan) for plan in config.models))


def hardly_judged(config: RunConfig) -> RunConfig:
    """The same study after a short attack, without pictures."""
    short = tuple(replace(j, attack=Apgd(steps=3), recheck=None) for j in config.judgements)
    return replace(config, judgements=short, gallery=0)


@pytest.mark.slow
def test_the_certified_study_trains_certifies_attacks_and_writes_its_page(tmp_path: Path) -> None:
    config = tiny(recipe("certified", quick=True, limit=12))
    place = RunLocation(tmp_path)
    report = run(config, place)
    assert report == tmp_path / REPORT
    methods = {(r.meta.tags.get("phase"), r.meta.method) for r in read_records(tmp_path)}
    assert {("base", "smoothing"), ("cra 1", "smoothing"), (None, "crown")} <= methods
    attacked = list(read_records(tmp_path / NETWORK_ATTACKS))
    assert sorted(r.meta.tags["phase"] for r in attacked) == ["base", "cra 1", "gaussian"]
    text = (tmp_path / PAGE).read_text()
    for words in ("**In short**", "Broken: 0 of", "cra 1", "surely right", "Bounds of provably"):
        assert words in text
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("shard-*.parquet")}
    run(config, place)
    assert kept == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("shard-*.parquet")}


def test_certificates_are_attacked_only_where_they_were_given(tmp_path: Path) -> None:
    config = recipe("certified", quick=True, limit=4)
    core = replace(
        tiny(config).models[0], judgements=(CertificateAttack(0.25, limit=4),), name="alone"
    )
    with pytest.raises(ConfigError, match="none was given there before"):
        run(replace(config, models=(core,)), RunLocation(tmp_path))


def test_the_geometry_study_measures_what_is_missing_and_writes_its_page(tmp_path: Path) -> None:
    whole = recipe("geometry", quick=True)
    distances = tuple(replace(plan, limit=100) for plan in whole.separations)
    config = replace(tiny(whole), separations=distances, slopes=replace(whole.slopes, images=8))
    place = RunLocation(tmp_path)
    assert run(config, place) == tmp_path / PAGE
    text = (tmp_path / PAGE).read_text()
    assert "100 with 100: test with training" in text
    assert "| trades |" in text
    slopes = json.loads((tmp_path / SLOPES).read_text())
    assert slopes["rows"][0]["test_probabilities"] > 0
    # What a killed run has left is kept, what is missing is measured.
    first, second = slopes["rows"]
    marked = first | {"train_logits": 7.0}
    (tmp_path / SLOPES).write_text(json.dumps(slopes | {"rows": [marked]}))
    run(config, place)
    assert json.loads((tmp_path / SLOPES).read_text())["rows"] == [marked, second]


@pytest.mark.parametrize("name", ["gtsrb", "gtsrb_transferred", "cifar10"])
def test_what_is_compared_on_real_images_costs_the_same(name: str) -> None:
    for config in (recipe(name), recipe(name, quick=True)):
        first = [p for p in config.models if not p.name.startswith("longer-")]
        tuned = [plan for plan in first if plan.start == Earlier("adversarial")]
        assert {plan.tags["loss"] for plan in tuned} == {"at", "trades", "era"}
        assert len({replace(p.train, objective=Standard(), threat=THREAT) for p in tuned}) == 1
        assert len({plan.train.objective.attack for plan in tuned}) == 1
        (at, inside) = (plan for plan in tuned if plan.name in ("at-2", "era-at-0.3-2"))
        assert at.train.objective.loss == inside.train.objective.robust == Adversarial(0.1)
        assert (at.tags["loss"], inside.tags["loss"]) == ("at", "era")
        assert len({json.dumps(plan.tags) for plan in tuned}) == len(tuned) - 1, "but for far"
        (far,) = (plan for plan in tuned if isinstance(plan.train.objective, LiteralEra))
        assert (far.name, far.train.objective.reach) == ("era-0.3-far-2", 2.0)
        (hard,) = (plan for plan in tuned if getattr(plan.train.objective, "hard", False))
        least = min(plan.tags["beta"] for plan in tuned if "beta" in plan.tags)
        assert (hard.name, hard.tags["beta"]) == (f"era-{least:g}-hard-2", least)
        assert {plan.train.threat.radius for plan in tuned} == {
            plan.tags["trained_at"] for plan in tuned
        }


def test_what_is_compared_most_is_trained_from_a_longer_training_too_and_there_twice() -> None:
    plans = {plan.name: plan for plan in recipe("cifar10").models}
    assert plans["longer-adversarial"].start == Earlier("adversarial")
    assert plans["longer-adversarial"].train.epochs > plans["adversarial"].train.epochs
    for name in ("at-2", "trades-2", "era-at-0.3-2"):
        assert plans[f"longer-{name}"].start == Earlier("longer-adversarial")
        assert plans[f"longer-{name}"].train == plans[name].train
    for name in ("trades-2", "era-at-0.3-2"):
        first, second = plans[f"longer-{name}"], plans[f"longer-seed1-{name}"]
        assert second.start == first.start
        assert second.train == replace(first.train, seed=1)
        assert second.tags == first.tags | {"seed": 1}


def test_signs_start_from_a_network_of_cifar10_with_a_new_last_layer(tmp_path: Path) -> None:
    plans = {plan.name: plan for plan in recipe("gtsrb_transferred").models}
    first = plans["adversarial"]
    assert isinstance(first.start, NewHead)
    assert first.start == plans["core"].start == plans["adversarial-1"].start
    splits = Gaussians().load()
    model, card = starting_point(first, splits, RunLocation(tmp_path))
    old, _ = load_model(first.start.ref)
    before, after = old.state_dict(), model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {"network.linear.weight", "network.linear.bias"}
    assert (
        card.architecture.classes == len(after["network.linear.bias"]) == splits.train.classes == 3
    )
    assert card.trained_on.names == ("cifar10/train", splits.train.name)


@pytest.mark.slow
def test_signs_from_cifar10_train_and_write_their_page(shared_data: Path, tmp_path: Path) -> None:
    config = hardly_judged(recipe("gtsrb_transferred", quick=True, limit=6))
    place = RunLocation(tmp_path, shared_data)
    run(replace(config, models=config.models[:3]), place)
    text = (tmp_path / PAGE).read_text()
    assert "| adversarial-1 − adversarial |" in text
    assert "`recuse:cifar10-longer-adversarial`" in text
    _, card = load_checkpoint(place.checkpoint("adversarial"))
    assert card.trained_on.names == ("cifar10/train", "gtsrb/train")
    assert card.notes["recipe"] == "gtsrb_transferred"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gtsrb", "cifar10"])
def test_studies_of_real_images_train_and_write_their_page(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    config = hardly_judged(recipe(name, quick=True, limit=6))
    place = RunLocation(tmp_path, shared_data)
    run(config, place)
    text = (tmp_path / PAGE).read_text()
    assert "| era-0.3-2 − trades-2 |" in text
    assert "| era-at-0.3-2 − at-2 |" in text
    assert "| at-2 − at-2 |" not in text
    assert "*era-at*" in text
    assert "| trades-2 − adversarial |" in text
    _, card = load_checkpoint(place.checkpoint("era-0.3-2"))
    assert card.notes["measured on"] == f"6 images of {name}/test"
    assert card.trained_on.names == (f"{name}/train",)


def test_a_gpu_trains_every_kind_of_network_at_the_cost_that_its_guide_counts() -> None:
    plans = {plan.name: plan for plan in recipe("cifar10_wide").models}
    assert len(plans) == 19
    assert {plan.train.batch_size for plan in plans.values()} == {256}
    for start, radius in (("adversarial", 2), ("adversarial-8", 8), ("wide-adversarial", 2)):
        prefix = "wide-" if start.startswith("wide") else ""
        tuned = {plan.name: plan for plan in plans.values() if plan.start == Earlier(start)}
        tuned.pop("adversarial-8", None)
        kinds = ("trades", "at", "era-0.3", "era-at-0.3")
        assert list(tuned) == [f"{prefix}{kind}-{radius}" for kind in kinds]
        assert len({replace(p.train, objective=Standard()) for p in tuned.values()}) == 1
    assert plans["adversarial-8"].train.objective.attack.steps == 10


@pytest.mark.slow
def test_the_study_for_a_gpu_stops_after_some_minutes_and_goes_on(
    shared_data: Path, tmp_path: Path
) -> None:
    config = recipe("cifar10_wide", quick=True)
    wanted = ("core", "adversarial", "era-at-0.3-2", "adversarial-8", "at-8", "wide-core")
    # Fewer images to decode than the whole of the JPEG files, which are loaded twice here.
    data = replace(config.data, source=Cifar10(train="lossless", test="lossless"))
    few = tuple(p for p in config.models if p.name in wanted)
    config = replace(config, data=data, models=few)
    place = RunLocation(tmp_path, shared_data)
    told: list[str] = []

    def pause(task: str, done: int, total: int, note: str = "") -> None:
        told.append(task)
        if task == "attack adversarial":
            raise PausedError("time is up")

    with pytest.raises(PausedError):
        run(config, place, progress=pause)
    told.clear()
    report = run(config, place, progress=lambda task, *rest: told.append(task))
    assert report.is_file()
    assert "train core" not in told
    assert {record.meta.model for record in read_records(tmp_path)} == set(wanted)
    (radii,) = {record.meta.radii for record in read_records(tmp_path)}
    assert radii == ("2/255", "4/255", "8/255", "16/255")


@pytest.mark.slow
def test_provable_networks_are_trained_proven_and_attacked(
    shared_data: Path, tmp_path: Path
) -> None:
    config = recipe("provable", quick=True, limit=6)
    short = replace(config.judgements[0], attack=Apgd(steps=3), recheck=None)
    plans = tuple(
        replace(p, judgements=(short, p.judgements[1])) if p.judgements else p
        for p in config.models
    )
    run(replace(config, models=plans, judgements=(short,)), RunLocation(tmp_path, shared_data))
    kinds = {
        (record.meta.model, record.has("certified", 2 / 255)) for record in read_records(tmp_path)
    }
    assert {("mtl-ibp", True), ("sabr", True), ("mtl-ibp", False), ("core", False)} <= kinds
    assert "mtl-ibp" in (tmp_path / REPORT).read_text()
    _, card = load_checkpoint(RunLocation(tmp_path).checkpoint("mtl-ibp-on"))
    assert card.notes["measured by"] == "apgd-ce, crown"
    natural, *rates = (
        card.accuracy[name]
        for name in (
            "natural_accuracy",
            "robust_accuracy@linf:2/255",
            "certified_accuracy@linf:2/255",
        )
    )
    assert natural >= rates[0] >= rates[1]


@pytest.mark.slow
def test_the_study_of_unsure_searches_every_network_with_one_core(
    shared_data: Path, tmp_path: Path
) -> None:
    config = recipe("unsure", quick=True)
    names = ("core", "trades-2", "unsure-0.3-2")
    few = tuple(plan for plan in config.models if plan.name in names)
    run(replace(config, models=few), RunLocation(tmp_path, shared_data))
    text = (tmp_path / PAGE).read_text()
    assert "| unsure-0.3-2 − trades-2 |" in text
    assert "| natural / robust | trades-2 | unsure-0.3-2 |" in text
    assert "| robust, paired | unsure-0.3-2 − trades-2 |" in text
    for mechanism in ("robustness indicator", "softmax response", "core's bare answer"):
        assert f"{mechanism} | " in text


def test_a_damaged_measurement_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / SLOPES).write_text('{"settings": {"data": "digits"}, "rows": []}')
    with pytest.raises(RecordError, match=r"damaged measurement .*; measure again"):
        write_study("geometry", tmp_path, tmp_path)
    with pytest.raises(RecordError, match="run the study first"):
        write_study("geometry", tmp_path / "none", tmp_path)
