"""The page of the frontier is what the searches over its records find."""

import json

import pytest

from recuse.analysis.frontier import ALL, frontier
from recuse.analysis.verdicts import verdicts
from recuse.report.study.frontier import write_frontier

EPS = "1/255"


@pytest.fixture
def records(of_two_classes):
    how = {"samples": 60, "settings": {"attack": {"steps": 7}, "margins": {"steps": 9}}}
    return [
        of_two_classes("core", "core", 0, sure=0.95, moves=1.5, **how),
        of_two_classes("stage", "robust", 1, sure=0.8, moves=0.3, **how),
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
