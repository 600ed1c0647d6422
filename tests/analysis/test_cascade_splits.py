"""Pools of records, halves that choose and halves that report, and the authors' logs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recuse.analysis.accounting import sound_account
from recuse.analysis.cascade_differences import (
    cascade_over_alone,
    cascade_over_cascade,
    cascade_over_core,
)
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
        "method": "apgd-ce",
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
        model("c", 4, method="pgd"),
        model("a", 5, method="apgd-conf", kind="confidence"),
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
    one, core = model("a", 2), model("core", 0, loss="std")
    two, again = (
        make_record(
            replace(first.meta, method="square"),
            model("a", seed).frame.with_columns(first.frame["accurate"]).to_dict(),
        )
        for seed, first in ((3, one), (1, core))
    )
    cores = [core, again]
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
    with pytest.raises(RecordError, match="no record of model 'z'; there are: core, a"):
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


def searched(records, *, loss: float, stages: int = 2, splits: int = 6):
    pool = pool_of(*records)
    return search_splits(pool, max_natural_loss=loss, max_stages=stages, splits=splits)


def test_the_model_that_stands_alone_is_chosen_on_the_same_half() -> None:
    names = ("a", "b", "c")
    records = [model(name, seed) for seed, name in enumerate(names, start=1)]
    result = searched([model("core", 0, loss="std"), *records], loss=0.05)
    frames = {r.meta.model: r.frame for r in records}
    core = result.pool.core
    for split in result.splits:
        choosing, reporting = halves(SAMPLES, split.seed)
        right = {n: frames[n]["accurate"].to_numpy()[choosing] for n in names}
        stays = {n: right[n] & frames[n]["robust@1/255"].to_numpy()[choosing] for n in names}
        floor = core.accurate[choosing].sum() - 0.05 * choosing.sum() - 1e-9
        within = [n for n in names if right[n].sum() >= floor] or names
        assert stays[split.alone].sum() == max(stays[n].sum() for n in within)
        frame = frames[split.alone]
        assert split.reporting.alone_natural == frame["accurate"].to_numpy()[reporting].mean()
        fits = right[split.alone].sum() >= floor
        better = stays[split.alone].mean() > split.choosing.sound
        assert split.better_alone == (fits and better)


def thresholds(seed: int, samples: int = 400, count: int = 40) -> list[Record]:
    """A core and many robust networks that answer as much as each dares, as thresholds do."""
    rng = np.random.default_rng(seed)
    ids = [f"{i:03d}" for i in range(samples)]
    sure, base = rng.random(samples), rng.random(samples) < 0.95
    right = rng.random(samples) < 0.5 + 0.5 * sure
    never = dict.fromkeys(("robust@1/255", "robust@2/255"), [False] * samples)
    records = [model("core", seed, loss="std", ids=ids)]
    records[0] = make_record(
        records[0].meta, records[0].frame.to_dict() | {"accurate": base} | never
    )
    for place in range(count):
        answers = sure + rng.normal(0, 0.1, samples) > place / count
        columns = {"accurate": right, "robust@1/255": answers, "robust@2/255": answers}
        frame = model(f"a{place}", seed, ids=ids)
        records.append(make_record(frame.meta, frame.frame.to_dict() | columns))
    return records


def test_who_asks_to_be_sure_of_the_loss_keeps_to_it_on_the_other_half() -> None:
    """Of many systems the best on one half gives up more on the other; who is sure does not."""
    kept, lost = {0.5: 0, 0.95: 0}, {0.5: 0.0, 0.95: 0.0}
    for seed in range(5):
        pool = pool_of(*thresholds(seed))
        for sure in kept:
            found = search_splits(
                pool, max_natural_loss=0.03, max_stages=1, splits=8, sure=sure, seed=seed
            )
            losses = [s.reporting.core_natural - s.reporting.natural for s in found.splits]
            assert found.kept == sum(loss <= 0.03 + 1e-9 for loss in losses)
            assert found.as_dict()["sure"] == sure
            for split in found.splits:
                half = halves(pool.samples, split.seed)[0]
                stages = [pool.stages[pool.names.index(n)] for n in split.stages]
                right = sound_account(stages, pool.core).natural
                apart = ((right != pool.core.accurate) & half).sum()
                spare = {0.5: 0.0, 0.95: 1.6448536269514722}[sure] * apart**0.5 / half.sum()
                assert split.choosing.natural >= split.choosing.core_natural - 0.03 + spare - 1e-9
            kept[sure] += found.kept
            lost[sure] += found.mean.core_natural - found.mean.natural
    assert lost[0.5] / 5 > 0.03 > lost[0.95] / 5
    assert kept[0.95] >= max(36, kept[0.5] + 10)


def test_a_model_that_beats_every_cascade_is_named() -> None:
    """As accurate as the core, robust at eps and not at 2 eps: composed, it need not answer."""
    every, none = [True] * SAMPLES, [False] * SAMPLES
    near = make_record(
        RecordMeta(
            "near", "signs/test", "apgd-ce", "linf", ("1/255", "2/255"), tags={"loss": "era"}
        ),
        {
            "sample_id": [f"{i:03d}" for i in range(SAMPLES)],
            "accurate": every,
            "robust@1/255": every,
            "robust@2/255": none,
        },
    )
    result = searched([model("core", 0, loss="std"), near], loss=0.0, stages=1)
    assert result.better_alone == len(result.splits)
    assert result.mean.alone_robust == 1
    assert cascade_over_alone(result).robust.high < 0


def test_differences_are_those_of_the_means_and_their_intervals_hold_the_truth() -> None:
    pool = [model("core", 0, loss="std"), model("a", 1), model("b", 2)]
    one, two = (searched(pool, loss=0.5, stages=n, splits=20) for n in (1, 2))
    mean, other = two.mean, one.mean
    over = cascade_over_cascade(two, one)
    assert over.natural.estimate == pytest.approx(mean.natural - other.natural)
    assert over.robust.estimate == pytest.approx(mean.sound - other.sound)
    over = cascade_over_core(two)
    assert over.robust.estimate == pytest.approx(mean.sound - mean.core_robust)
    assert over.robust.low < over.robust.estimate < over.robust.high
    over = cascade_over_alone(two)
    assert over.natural.estimate == pytest.approx(mean.natural - mean.alone_natural)


def test_the_interval_of_one_split_is_that_of_its_paired_samples() -> None:
    result = searched([model("core", 0, loss="std"), model("a", 1)], loss=0.5, splits=1)
    pool, (split,) = result.pool, result.splits
    half = halves(SAMPLES, split.seed)[1]
    stage = pool.stages[0]
    core = pool.core.accurate & pool.core.robust
    sound = stage.accurate & (stage.surely_selects | core)
    d = (sound.astype(float) - core)[half] if split.stages else np.zeros(half.sum())
    error = 1.959964 * d.std(ddof=1) / np.sqrt(len(d))
    over = cascade_over_core(result).robust
    assert (over.low, over.high) == pytest.approx((d.mean() - error, d.mean() + error))


@pytest.mark.parametrize(
    "settings",
    [
        {"splits": 0, "max_stages": 1, "max_natural_loss": 0.0},
        {"splits": 1, "max_stages": 0, "max_natural_loss": 0.0},
        {"splits": 1, "max_stages": 1, "max_natural_loss": -0.1},
        {"splits": 1, "max_stages": 1, "max_natural_loss": 0.1, "sure": 0.4},
        {"splits": 1, "max_stages": 1, "max_natural_loss": 0.1, "sure": 1.0},
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
    # With what the attack on the confidence broke; by the attack on the answer alone 71.0 and 75.9.
    assert sound("mtsd_l", "2/255", 0.01, 1) == pytest.approx(70.7, abs=0.1)
    assert sound("mtsd_l", "2/255", 0.01, 2) == pytest.approx(75.3, abs=0.1)
    assert sound("cifar10", "1/255", 0.01, 1) == pytest.approx(85.8, abs=0.1)
    assert sound("cifar10", "1/255", 0.01, 2) == pytest.approx(87.6, abs=0.1)
