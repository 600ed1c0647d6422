"""A search over thresholds and mixtures: its counts, its choice, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recuse.analysis.accounting import CoreVerdicts, sound_account
from recuse.analysis.cascade_differences import cascade_over_core
from recuse.analysis.cascade_pool import build_pool
from recuse.analysis.cascade_splits import halves, search_splits
from recuse.analysis.frontier import ahead, only
from recuse.analysis.mechanism_pool import MECHANISMS, MIXTURES, SELECTING
from recuse.analysis.split_results import SearchResult
from recuse.analysis.verdicts import verdicts
from recuse.errors import ConfigError, RecordError
from recuse.evaluation.margins import largest_entropy
from recuse.records.schema import Record, RecordMeta, make_record
from recuse.systems.typed import read_selector
from recuse.threat import Threat

SAMPLES = 120
NETWORK = {"net": torch.nn.Identity()}
EPS = "1/255"


def network(name: str, seed: int, *, sure: float, moves: float, role: str) -> Record:
    """A network of two classes: p_y at x, and how far an attack may move it."""
    rng = np.random.default_rng(seed)
    p = np.clip(rng.normal(sure, 0.2, SAMPLES), 0.01, 0.99)
    least = np.clip(p - moves * rng.random(SAMPLES), 0.001, 0.999)
    right, holds = p > 0.5, (least > 0.5) | (p <= 0.5)
    columns = {
        "sample_id": [f"{i:03d}" for i in range(SAMPLES)],
        "accurate": right,
        "confidence": np.maximum(p, 1 - p),
        f"robust@{EPS}": holds,
        "robust@2/255": holds & (least > 0.6),
        "robust@3/255": holds & (least > 0.65),
        "margin": 2 * p - 1,
        f"worst_margin@{EPS}": 2 * least - 1,
        f"worst_confidence@{EPS}": 1 - least,
        f"least_confidence@{EPS}": least,
        "entropy": -p * np.log(p) - (1 - p) * np.log(1 - p),
        f"largest_entropy@{EPS}": largest_entropy(torch.from_numpy(least), 2).numpy(),
        "score": p,
        f"least_score@{EPS}": least,
        f"largest_score@{EPS}": np.minimum(1, p + 0.1),
    }
    # Of two classes the answer is that of p, and as an attack moves p to least, so it does 1 - p.
    stable = np.where(right, least, np.maximum(p, 1 - p))
    for radius in (EPS, "2/255"):
        columns |= {
            f"stable_margin@{radius}": np.where(columns[f"robust@{radius}"], 2 * stable - 1, -1),
            f"stable_confidence@{radius}": np.where(columns[f"robust@{radius}"], stable, 0),
        }
    radii = (EPS, "2/255", "3/255")
    meta = RecordMeta(name, "signs/test", "apgd-ce", "linf", radii, tags={"role": role})
    return make_record(meta, columns)


CORE = network("core", 0, sure=0.95, moves=1.5, role="core")
STAGE = network("stage", 1, sure=0.8, moves=0.3, role="robust")


def pool_of(*mechanisms: str, records=(CORE, STAGE), thresholds=20):
    return build_pool(
        records, dataset="signs", eps=EPS, mechanisms=mechanisms, thresholds=thresholds
    )


def test_a_mechanism_is_named_as_its_selector_may_be_typed() -> None:
    assert pool_of("robust_margin").names == pool_of("robust-margin").names


def test_an_indicator_pool_is_what_it_was() -> None:
    pool = pool_of("indicator")
    assert (pool.names, pool.networks, pool.mixtures) == (("stage",), ("stage",), ())


def test_every_system_counts_as_its_formula_says() -> None:
    pool = pool_of(*MECHANISMS)
    frame, core = STAGE.frame, CORE.frame
    confidence, least = frame["confidence"].to_numpy(), frame[f"least_confidence@{EPS}"].to_numpy()
    for title, stage in zip(pool.names, pool.stages, strict=True):
        if ": softmax" in title:
            threshold = float(title.partition("threshold=")[2].rstrip(")"))
            assert np.array_equal(stage.selects, confidence >= np.float32(threshold))
            assert np.array_equal(stage.surely_selects, least >= threshold)
    for kind in SELECTING:
        assert sum(f": {kind}(" in title for title in pool.names) >= 15
    p, q = (f[f"worst_margin@{EPS}"].to_numpy() for f in (frame, core))
    p0, q0 = (f["margin"].to_numpy() for f in (frame, core))
    sure = (core["accurate"] & core[f"robust@{EPS}"]).to_numpy()
    for title, mixed in pool.mixtures:
        a = float(title.partition("; ")[2].rstrip(")"))
        assert a > 0.5
        if title.startswith("one-hot"):
            robust = (a * p > 1 - a) | (sure & (a * p > a - 1))
            natural = (a * p0 > 1 - a) | (core["accurate"].to_numpy() & (a * p0 > a - 1))
        else:
            robust, natural = a * p + (1 - a) * q > 0, a * p0 + (1 - a) * q0 > 0
        assert np.array_equal(mixed.robust, robust & natural)
        assert np.array_equal(mixed.accurate, natural)
    assert len(pool.mixtures) == 40


def test_a_stage_is_named_as_its_selector_is_typed_and_counts_at_its_threshold() -> None:
    pool, model, seen = pool_of(*MECHANISMS), verdicts(STAGE), set()
    for title, stage in zip(pool.names, pool.stages, strict=True):
        network, _, text = title.partition(": ")
        assert network == "stage"
        if text:
            read_selector(text, Threat("linf", EPS), **NETWORK)
        kind, _, setting = text.partition("(threshold=")
        if kind in SELECTING:
            seen.add(kind)
            selecting = SELECTING[kind]
            scores, threshold = selecting.scores(model, EPS), float(setting.rstrip(")"))
            assert selecting.lowest < threshold < selecting.highest
            assert np.array_equal(stage.selects, scores >= threshold)
            assert not (stage.surely_selects & ~stage.selects).any()
    assert seen == set(SELECTING)


def test_every_radius_that_was_judged_with_its_sum_is_an_indicator() -> None:
    pool = pool_of("any-radius")
    assert pool.names == ("stage: indicator(radius=2/255)",)
    (stage,) = pool.stages
    assert np.array_equal(stage.selects, STAGE.frame["robust@2/255"])
    assert np.array_equal(stage.surely_selects, STAGE.frame["robust@3/255"])
    assert np.array_equal(stage.right_where_selecting, STAGE.frame["accurate"])
    wide = build_pool((CORE, STAGE), dataset="signs", eps="2/255", mechanisms=("any-radius",))
    assert wide.names == ("stage: narrow-indicator(radius=1/255)",)
    safe = STAGE.frame["accurate"] & STAGE.frame["robust@2/255"]
    assert np.array_equal(wide.stages[0].right_where_selecting, safe)


def test_more_mechanisms_never_choose_worse_and_the_mixture_may_win() -> None:
    found = {}
    more = ("indicator", "softmax", "mixture", "one-hot-mixture")
    for mechanisms in (more[:1], more[:2], more):
        result = search_splits(
            pool_of(*mechanisms), max_natural_loss=0.1, max_stages=2, splits=6, seed=0
        )
        found[mechanisms] = [split.choosing.sound for split in result.splits]
        assert cascade_over_core(result).robust.estimate > 0
    few, more, most = found.values()
    assert all(a <= b <= c for a, b, c in zip(few, more, most, strict=True))
    assert sum(most) > sum(few)
    assert any(split.mixture for split in result.splits)
    kept = result.as_dict()["splits"][0]
    assert {"stages", "mixture", "sound", "natural"} <= kept.keys()


@pytest.mark.parametrize("mechanism", MIXTURES)
def test_mixtures_alone_are_a_pool_as_they_are_of_a_larger_one(mechanism: str) -> None:
    pool, larger = pool_of(mechanism), pool_of("softmax", mechanism)
    assert pool.mechanisms == (mechanism,)
    assert pool.names == ("stage alone",)
    assert [title for title, _ in pool.mixtures] == [title for title, _ in larger.mixtures]
    how = {"max_natural_loss": 0.1, "max_stages": 2, "splits": 6}
    found, same = (search_splits(p, **how) for p in (pool, only(larger, mechanism)))
    assert found.splits == same.splits
    assert all(not split.stages for split in found.splits)
    assert any(split.mixture for split in found.splits)


def rival(every: SearchResult, right: np.ndarray, robust: np.ndarray) -> SearchResult:
    """The same search, had every half chosen what is right and robust just there."""
    pool = replace(every.pool, core=CoreVerdicts(right, robust))
    splits = tuple(replace(split, stages=(), mixture="") for split in every.splits)
    return replace(every, pool=pool, splits=splits)


def test_a_mechanism_that_is_better_beyond_the_interval_is_ahead_and_no_other() -> None:
    every = search_splits(pool_of("softmax"), max_natural_loss=0.1, max_stages=1, splits=1)
    (split,) = every.splits
    stages = [every.pool.stages[every.pool.names.index(name)] for name in split.stages]
    account, half = sound_account(stages, every.pool.core), halves(SAMPLES, split.seed)[1]
    place = np.flatnonzero(half & ~account.robust)[0]
    one = np.arange(SAMPLES) == place
    same = rival(every, account.natural, account.robust)
    by_one = rival(every, account.natural | one, account.robust | one)
    better = rival(every, account.natural | True, account.robust | True)
    dearer = rival(every, account.natural & ~one, account.robust | True)
    assert ahead(every, {"same": same, "by one": by_one, "dearer": dearer}) is None
    assert ahead(every, {"by one": by_one, "better": better}) == "better"
    assert ahead(better, {"behind": every}) is None


def test_what_any_attack_broke_has_no_margin_left() -> None:
    broken = replace(
        STAGE.meta, method="square", settings={"attack": "other"}, tags={"role": "robust"}
    )
    columns = STAGE.frame.select("sample_id", "accurate").to_dict()
    nothing = [False] * SAMPLES
    other = make_record(broken, columns | {f"robust@{EPS}": nothing, "robust@2/255": nothing})
    pool = pool_of("softmax", "mixture", records=(CORE, STAGE, other))
    assert not any(stage.surely_selects.any() for stage in pool.stages)
    core = CORE.frame[f"worst_margin@{EPS}"].to_numpy() > 0
    assert all(not (mixed.robust & ~core).any() for _, mixed in pool.mixtures)


def test_of_several_records_of_a_network_one_with_the_margins_that_are_asked_for_counts() -> None:
    without = []
    for record in (CORE, STAGE):
        kept = record.frame.drop([c for c in record.frame.columns if "worst" in c])
        without.append(make_record(replace(record.meta, seed=1), kept.to_dict()))
    both = pool_of("softmax", "mixture", records=(*without, CORE, STAGE))
    assert both.names == pool_of("softmax").names
    assert len(both.mixtures) == 20


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="'magic' is unknown; known: indicator, any-radius"):
        pool_of("magic")
    for name in ("cpr", "mixednuts", "certified", "always", "narrow-indicator"):
        with pytest.raises(ConfigError, match=f"'{name}' has no sound count: (it|by)"):
            pool_of(name)
    with pytest.raises(ConfigError, match="name one mechanism or more: indicator, any-radius"):
        pool_of()
    with pytest.raises(ConfigError, match="0 thresholds leave nothing to choose"):
        build_pool([CORE, STAGE], dataset="signs", eps=EPS, thresholds=0)
    bare = make_record(STAGE.meta, STAGE.frame.drop(f"least_confidence@{EPS}", "margin").to_dict())
    with pytest.raises(RecordError, match="evaluate --margins makes it"):
        pool_of("softmax", records=(CORE, bare))
