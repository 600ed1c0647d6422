"""The page of the frontier says which mechanism is ahead, what was attacked, what logs hold."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recuse.analysis.cascade_pool import build_pool
from recuse.analysis.cascade_splits import search_splits
from recuse.analysis.contradictions import Met
from recuse.analysis.frontier import ALL, Frontier, Searched, only
from recuse.report.study.attacked_systems import attacked
from recuse.report.study.frontier import attacked_figure
from recuse.report.study.frontier_words import published, verdict

EPS = "1/255"


def test_the_mechanism_ahead_is_named_with_those_level_and_behind(of_two_classes) -> None:
    records = [
        of_two_classes("core", "core", 4, sure=0.95, moves=1.5, twice=0.9),
        of_two_classes("stage", "robust", 5, sure=0.8, moves=0.3, twice=0.9),
    ]
    names = ("indicator", "softmax")
    pool = build_pool(records, dataset="signs", eps=EPS, mechanisms=names)
    how = {"max_natural_loss": 0.1, "max_stages": 1, "splits": 5}
    searches = [Searched(n, 0.1, search_splits(only(pool, n), **how)) for n in (*names, ALL)]
    entry = Frontier(pool, tuple(searches))
    assert entry.best_alone(0.1) == "softmax"
    more = entry.over(0.1, "indicator", by="softmax").robust
    assert more.low > 0
    direct = searches[1].result.mean.sound - searches[0].result.mean.sound
    assert more.estimate == pytest.approx(direct)
    said = verdict(entry, 0.1)
    assert "softmax response leaves most" in said
    assert "behind it: robustness indicator" in said
    assert "level with it" not in said
    assert "No baseline, member or mechanism is better" in said


def test_a_member_that_is_better_in_both_counts_is_named_and_taken(of_two_classes) -> None:
    records = [
        of_two_classes("core", "core", 4, sure=0.6, moves=1.5, twice=0.9),
        of_two_classes("stage", "robust", 5, sure=0.95, moves=0.05, twice=0.9),
    ]
    pool = build_pool(records, dataset="signs", eps=EPS)
    found = search_splits(pool, max_natural_loss=0.1, max_stages=1, splits=5)
    entry = Frontier(pool, (Searched("indicator", 0.1, found), Searched(ALL, 0.1, found)))
    over = entry.alone(0.1)["robust network alone"]
    assert over.natural.high <= 0
    assert over.robust.high < 0
    said = verdict(entry, 0.1)
    assert "beyond the interval, is robust network alone: the one to take here" in said
    assert "a search takes a network alone in 5 of 5 halves" in said


def test_attacked_systems_are_a_table_and_a_figure() -> None:
    one, none = np.array([True] * 6 + [False] * 2), np.zeros(8, dtype=np.bool_)
    alone = (("stage", one, one), ("core", one, none))
    name = "stage: softmax(threshold=0.7) → core"
    found = Met(name, "cifar10/test", EPS, "20 steps", alone, one, one, one & (np.arange(8) > 0))
    text = "\n".join(attacked([found]))
    assert f"| {name} | 1/255 | 8 | 75.0 (" in text
    assert text.rstrip().endswith("| 1 | stage 75.0 / 75.0; core 75.0 / 0.0 |")
    assert attacked([]) == []
    two = "\n".join(attacked([found, replace(found, adversary="20 steps, 3 targets")]))
    assert f"| {name} | 1/255 | 8 | 20 steps, 3 targets | 75.0 (" in two
    drawn = json.dumps(attacked_figure([found]).chart.to_dict())
    for words in ("softmax response", "robust network alone", "core alone", "CIFAR-10, 1/255"):
        assert words in drawn


def test_published_logs_are_told_where_a_search_of_them_is_at_hand(tmp_path: Path) -> None:
    assert published(tmp_path) == []
    mean = dict.fromkeys(("core_natural", "core_robust", "alone_natural"), 0.5)
    mean |= {"alone_robust": 0.25, "natural": 0.75, "sound": 0.125}
    splits = [{"better_alone": True}, {"better_alone": False}]
    found = {"dataset": "mtsd_l/test", "eps": EPS, "samples": 9, "mean": mean, "splits": splits}
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "signs.json").write_text(json.dumps(found))
    row = "| mtsd_l, 1/255 | 9 | 50.0 / 50.0 | 50.0 / 25.0 | 75.0 / 12.5 | 1 of 2 |"
    assert row in published(tmp_path)
