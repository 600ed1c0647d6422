"""What was measured on every test image agrees with itself and with the reports' records."""

import importlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from recuse.analysis.networks import gather
from recuse.analysis.verdicts import verdicts
from recuse.radius import parse_radius
from recuse.records.run_folder import read_run

from .test_pages import RESULTS

STUDIES = json.loads((RESULTS / "bench" / "robust_inaccuracy.json").read_text())


@pytest.fixture(params=STUDIES)
def study(request):
    return STUDIES[request.param]


def test_an_answer_that_holds_in_a_larger_ball_holds_in_a_smaller_one_and_is_wrong(study):
    for network in study["networks"].values():
        radii = sorted(network["robust"], key=parse_radius)
        chain = [network["wrong"], *(network["robust"][radius] for radius in radii)]
        assert set(chain[0]) <= set(range(study["images"]))
        for larger, smaller in pairwise(chain):
            assert set(smaller) <= set(larger)
            assert len(set(smaller)) == len(smaller)


def test_differences_are_those_of_the_lists(study, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    script = importlib.import_module("robust_inaccuracy")
    networks = {name: script.Wrong(**found) for name, found in study["networks"].items()}
    assert script.differences(networks, study["images"], study["known"]) == study["differences"]
    first, *others = study["networks"].values()
    for other, pair in zip(others, study["differences"].values(), strict=True):
        for part, begin in (("all", 0), ("others", study["known"])):
            for radius, at in first["robust"].items():
                more, less = (sum(i >= begin for i in x) for x in (at, other["robust"][radius]))
                difference = 100 * (more - less) / (study["images"] - begin)
                assert pair[part][radius][0] == pytest.approx(difference, abs=0.006)


def test_the_page_of_results_prints_what_was_measured(study):
    text = (RESULTS.parent / "docs" / "results.md").read_text("utf-8")
    for network in study["networks"].values():
        assert f"{100 * len(network['robust']['2/255']) / study['images']:.2f}" in text
    difference, low, high = next(iter(study["differences"].values()))["all"]["2/255"]
    assert f"(−{-difference:.2f}, {-high:.2f} to {-low:.2f})" in " ".join(text.split())


def test_on_the_images_of_the_report_they_are_what_its_records_say():
    study = STUDIES["gtsrb_transferred"]
    records = read_run(RESULTS / "runs" / "gtsrb_transferred").records
    for name, network in study["networks"].items():
        own = [verdicts(record) for record in records if record.meta.model == name]
        found = max(gather(own), key=lambda one: one.samples)
        assert found.samples == study["known"]
        wrong = ~found.accurate()
        assert np.flatnonzero(wrong).tolist() == [i for i in network["wrong"] if i < found.samples]
        for radius, held in network["robust"].items():
            # Systems of several networks that were attacked as a whole may have broken more.
            assert set(np.flatnonzero(wrong & found.robust(radius))) <= set(held)
