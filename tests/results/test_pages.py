"""Every results page is what its one command makes of the committed rows, in a fresh clone."""

import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from recuse.analysis.contradictions import met
from recuse.analysis.networks import gather
from recuse.analysis.verdicts import verdicts
from recuse.records.run_folder import read_run
from recuse.report.study import study_of, write_study

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
# Run folders whose config names a page; `recuse report` writes it.
RUNS = sorted(path.parent for path in RESULTS.rglob("config.json") if study_of(path.parent))
MADE = ("README.md", "*.svg", "*.png", "report.html")


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_page_of_a_run_is_what_report_makes_of_its_records(run, tmp_path, monkeypatch):
    monkeypatch.delenv("RECUSE_DATA", raising=False)
    out = tmp_path / run.name
    shutil.copytree(run, out, ignore=shutil.ignore_patterns(*MADE))
    write_study(study_of(out), out, out)
    for name in ("README.md", *(path.name for path in run.glob("*.svg"))):
        # The renderer numbers the clips of all figures of a process.
        again, kept = (
            re.sub(r"clip\d+", "clip", (folder / name).read_text("utf-8")) for folder in (out, run)
        )
        assert again == kept, f"{run / name} is not what recuse report makes of the records"


def pages():
    return [run / "README.md" for run in RUNS]


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.parent.name)
def test_page_says_command_adversary_images_and_what_was_chosen(page):
    text = page.read_text("utf-8")
    assert "`recuse report" in text
    for words in (
        r"\*\*(Adversary|Proof)\.\*\*",
        r"\*\*(Images|Points|Setting)\.\*\*",
        r"(?i)chosen",
    ):
        assert re.search(words, text), f"{page} says nothing about {words}"


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.parent.name)
def test_no_picture_lies_unused(page):
    text = page.read_text("utf-8")
    pictures = [p for p in page.parent.rglob("*") if p.suffix in {".svg", ".png"}]
    assert [p.name for p in pictures if p.name not in text] == []


def cores_of(run):
    """Every core of a run, with what any attack that lies there broke."""
    folder = read_run(RESULTS / run)
    judged = gather([verdicts(record) for record in folder.records], folder.attacks)
    cores = (model for model in judged if model.meta.tags["role"] == "core")
    return {model.meta.weights: model for model in cores}.values()


def test_every_page_knows_what_any_attack_broke_of_a_network():
    (core,) = cores_of("runs/cifar10_small")
    for name in ("1/255", "2/255"):
        column = f"robust@{name}"
        robust = core.frame.select("sample_id", known=column)
        (kept,) = (model.frame for model in cores_of("selectors"))
        assert (
            kept.join(robust, on="sample_id").filter(pl.col(column) & ~pl.col("known")).is_empty()
        )
    (losses,) = (core for core in cores_of("losses") if core.meta.dataset == "cifar10/test")
    found = losses.frame.join(robust, on="sample_id")
    assert found.height == 700
    assert found.filter(pl.col(column) & ~pl.col("known")).is_empty()


def test_the_frontier_knows_what_any_attack_broke_of_its_networks():
    networks = {}
    for run in ("runs/cifar10_small", "frontier"):
        folder = read_run(RESULTS / run)
        judged = gather([verdicts(record) for record in folder.records], folder.attacks)
        networks[run] = {model.meta.weights: model.frame for model in judged}
    shared = networks["frontier"].keys() & networks["runs/cifar10_small"].keys()
    assert len(shared) == 2
    for weights in shared:
        mine, known = (networks[run][weights] for run in ("frontier", "runs/cifar10_small"))
        both = mine.filter("accurate").join(known, on="sample_id", suffix=" elsewhere")
        assert both.height > 350
        for name in ("robust@1/255", "robust@2/255", "robust@4/255"):
            assert both.filter(pl.col(name) & ~pl.col(f"{name} elsewhere")).is_empty()


def test_an_adversary_of_a_whole_system_broke_no_promise_but_those_that_pages_name():
    promised, systems, broken = 0, 0, {}
    for run in (RESULTS / "frontier", *sorted((RESULTS / "runs").iterdir()), RESULTS / "losses"):
        folder = read_run(run)
        judged = gather([verdicts(record) for record in folder.records])
        systems_met = met(folder.attacks, judged)
        found = [one for one in systems_met if " → " in one.name or "mixture(" in one.name]
        broken |= {one.name: int(one.contradictions) for one in found if one.contradictions}
        promised += sum(int(one.promised.sum()) for one in found)
        systems += len(found)
    assert systems >= 2
    assert promised > 500
    # A short attack on each network had called them sound; the page counts them as broken.
    assert broken == {"gtsrb-trades-2: indicator → gtsrb-core": 3}
