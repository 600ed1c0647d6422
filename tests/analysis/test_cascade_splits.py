"""Pools of records, halves that choose and halves that report, and the authors' logs."""

from pathlib import Path

import numpy as np
import pytest

from recuse.analysis.cascade_pool import build_pool
from recuse.analysis.cascade_splits import halves, search_splits
from recuse.errors import ConfigError, RecordError
from recuse.records.reference_logs import read_logs
from recuse.records.schema import Record, RecordMeta, make_record

SAMPLES = 40


def model(name: str, seed: int, *, loss: str = "era", **changes) -> Record:
    rng = np.random.default_rng(seed)
    wanted = {
        "dataset": "signs/test",
        "attack": "apgd-ce",
        "norm": "linf",
        "radii": ("1/255", "2/255"),
        "tags": {"loss": loss},
        "ids": [f"{i:03d}" for i in range(SAMPLES)],
        "kind": "robust",
    } | changes
    ids, kind = wanted.pop("ids"), wanted.pop("kind")
    robust = rng.random(len(ids)) < 0.8
    columns = {
        "sample_id": ids,
        "accurate": rng.random(len(ids)) < 0.9,
        "robust@1/255": robust,
        "robust@2/255": robust & (rng.random(len(ids)) < 0.8),
    }
    if kind == "confidence":
        columns["adv_confidence@1/255"] = rng.random(len(ids))
    if "2/255" not in wanted["radii"]:
        del columns["robust@2/255"]
    return make_record(RecordMeta(model=name, **wanted), columns)


def pool_of(*records: Record):
    return build_pool(records, dataset="signs", eps="1/255")


def test_a_pool_takes_what_was_judged_at_eps_and_twice_eps() -> None:
    pool = pool_of(
        model("core", 0, loss="std"),
        model("a", 2),
        model("b", 3, radii=("1/255",)),
        model("c", 4, attack="pgd"),
        model("a", 5, attack="apgd-conf", kind="confidence"),
        model("elsewhere", 6, dataset="digits/test"),
    )
    assert pool.names == ("a",)
    assert pool.core_name == "core"
    assert dict(pool.left_out)["b"] == "not judged at 2/255"
    assert dict(pool.left_out)["c"] == "not judged by apgd-ce"


def test_the_most_accurate_standard_model_is_the_core() -> None:
    cores = [model(f"core {seed}", seed, loss="std") for seed in range(4)]
    pool = pool_of(*cores, model("a", 9))
    best = max(cores, key=lambda r: r.frame["accurate"].sum())
    assert pool.core_name == best.meta.model
    assert set(pool.names) == {"a", *(c.meta.model for c in cores)} - {pool.core_name}


def test_networks_of_one_name_are_told_apart_by_their_weights() -> None:
    twins = [model("a", seed, weights=str(seed) * 64) for seed in (1, 2)]
    pool = pool_of(model("core", 0, loss="std"), *twins)
    assert pool.names == ("a (11111111)", "a (22222222)")


def test_several_attacks_on_a_model_count_as_the_worst_of_them() -> None:
    one, two = model("a", 2), model("a", 3, attack="square")
    cores = [model("core", 0, loss="std"), model("core", 1, loss="std", attack="square")]
    pool = pool_of(*cores, one, two)
    both = one.frame["robust@1/255"] & two.frame["robust@1/255"]
    np.testing.assert_array_equal(pool.stages[0].selects, both.to_numpy())


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([model("a", 1)], "no model is tagged as a core"),
        ([model("core", 0, loss="std")], "no model can be a stage"),
        ([model("core", 0, loss="std", dataset="x/test")], "no record of data set 'signs'"),
        ([model("core", 0, loss="std"), model("a", 1, norm="l2")], "different norms: linf, l2"),
        (
            [model("core", 0, loss="std"), model("a", 1, ids=[f"{i}" for i in range(SAMPLES)])],
            "different samples",
        ),
    ],
)
def test_records_that_do_not_fit_are_refused(records: list[Record], words: str) -> None:
    with pytest.raises(RecordError, match=words):
        pool_of(*records)


def test_an_unjudged_radius_and_an_unknown_core_are_refused() -> None:
    records = [model("core", 0, loss="std"), model("a", 1)]
    with pytest.raises(RecordError, match="judged: 1/255, 2/255"):
        build_pool(records, dataset="signs", eps="8/255")
    with pytest.raises(RecordError, match="no record of core 'z'; there are: core, a"):
        build_pool(records, dataset="signs", eps="1/255", core="z")


def test_halves_are_disjoint_whole_and_repeatable() -> None:
    choosing, reporting = halves(11, 3)
    assert (choosing ^ reporting).all()
    assert choosing.sum() == 5
    np.testing.assert_array_equal(halves(11, 3)[0], choosing)
    assert (halves(11, 4)[0] != choosing).any()


def test_the_result_says_what_it_reports_as_json() -> None:
    pool = pool_of(model("core", 0, loss="std"), model("a", 1), model("b", 2))
    result = search_splits(pool, max_natural_loss=0.5, max_stages=2, splits=3)
    raw = result.as_dict()
    assert [s["seed"] for s in raw["splits"]] == [0, 1, 2]
    assert raw["mean"]["sound"] == pytest.approx(np.mean([s["sound"] for s in raw["splits"]]))
    for split in raw["splits"]:
        assert set(split["stages"]) <= {"a", "b"}
        assert {"natural", "sound", "core_natural"} <= set(split)
        assert split["choosing"]["natural"] >= split["choosing"]["core_natural"] - 0.5 - 1e-9


@pytest.mark.parametrize(
    "settings",
    [
        {"splits": 0, "max_stages": 1, "max_natural_loss": 0.0},
        {"splits": 1, "max_stages": 0, "max_natural_loss": 0.0},
        {"splits": 1, "max_stages": 1, "max_natural_loss": -0.1},
    ],
)
def test_settings_that_search_nothing_are_refused(settings) -> None:
    pool = pool_of(model("core", 0, loss="std"), model("a", 1))
    with pytest.raises(ConfigError):
        search_splits(pool, **settings)


@pytest.mark.slow
def test_cascades_of_the_published_models_beat_the_best_composition(
    shared_reference: Path,
) -> None:
    records = [item.record for item in read_logs(shared_reference).imports]

    def sound(dataset: str, eps: str, loss: float, stages: int) -> float:
        pool = build_pool(records, dataset=dataset, eps=eps)
        result = search_splits(pool, max_natural_loss=loss, max_stages=stages, splits=20)
        assert all(split.optimal for split in result.splits)
        return 100 * result.mean.sound

    signs = [sound("mtsd_l", "2/255", 0.0, k) for k in (1, 2, 3, 4)]
    assert signs[0] == pytest.approx(69.1, abs=0.1)
    assert signs[1] == pytest.approx(72.1, abs=0.1)
    assert signs[1] < signs[2] < signs[3]
    assert sound("mtsd_l", "2/255", 0.01, 1) == pytest.approx(71.0, abs=0.1)
    assert sound("mtsd_l", "2/255", 0.01, 2) == pytest.approx(75.9, abs=0.1)
    assert sound("cifar10", "1/255", 0.01, 1) == pytest.approx(85.8, abs=0.1)
    assert sound("cifar10", "1/255", 0.01, 2) == pytest.approx(87.6, abs=0.1)
