"""The page of the frontier is what the searches over its records find."""

import json

import numpy as np
import pytest

from recuse.analysis.frontier import ALL, frontier
from recuse.analysis.verdicts import verdicts
from recuse.records.schema import RecordMeta, make_record
from recuse.report.study.frontier import write_frontier

EPS, SAMPLES = "1/255", 60


def network(name, seed, *, sure, moves, role):
    rng = np.random.default_rng(seed)
    p = np.clip(rng.normal(sure, 0.2, SAMPLES), 0.01, 0.99)
    least = np.clip(p - moves * rng.random(SAMPLES), 0.001, 0.999)
    holds = (least > 0.5) | (p <= 0.5)
    columns = {
        "sample_id": [f"{i:03d}" for i in range(SAMPLES)],
        "accurate": p > 0.5,
        "confidence": np.maximum(p, 1 - p),
        f"robust@{EPS}": holds,
        "robust@2/255": holds & (least > 0.6),
        "margin": 2 * p - 1,
        f"worst_margin@{EPS}": 2 * least - 1,
        f"worst_confidence@{EPS}": 1 - least,
        f"least_confidence@{EPS}": least,
    }
    settings = {"attack": {"steps": 7}, "margins": {"steps": 9}}
    meta = RecordMeta(
        name, "signs/test", "apgd-ce", "linf", (EPS, "2/255"), name, settings, tags={"role": role}
    )
    return make_record(meta, columns)


@pytest.fixture
def records():
    return [
        network("core", 0, sure=0.95, moves=1.5, role="core"),
        network("stage", 1, sure=0.8, moves=0.3, role="robust"),
    ]


@pytest.mark.slow
def test_the_page_holds_every_mechanism_beside_both_members(write_run, records, tmp_path):
    run = write_run("frontier", records, eps=(1 / 255,))
    kept = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(kept | {"page": "frontier"}))
    write_frontier(run, run)
    text = (run / "README.md").read_text()
    assert "apgd-ce of 7 steps" in text
    assert "searches of 9 steps" in text
    found = frontier([verdicts(record) for record in records], EPS, losses=(0.025,))
    for search in found.searches:
        mean = search.result.mean
        assert f"| {100 * mean.natural:.1f} ± " in text
        assert f"| {100 * mean.sound:.1f} ± " in text
    mean = found.searches[0].result.mean
    assert f"| core alone | {100 * mean.core_natural:.1f} | {100 * mean.core_robust:.1f} |" in text
    assert f"| robust network alone | {100 * mean.alone_natural:.1f} |" in text
    assert (run / "frontier.svg").stat().st_size > 1000


def test_on_the_choosing_half_all_together_are_never_behind(records):
    found = frontier([verdicts(record) for record in records], EPS, losses=(0.0, 0.1))
    for loss in (0.0, 0.1):
        searches = {s.mechanism: s.result for s in found.at(loss)}
        for name, result in searches.items():
            pairs = zip(searches[ALL].splits, result.splits, strict=True)
            assert all(a.choosing.sound >= b.choosing.sound for a, b in pairs), name
        assert found.over(loss, ALL).robust.estimate == 0
