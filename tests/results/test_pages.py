"""Every results page is what its one command makes of the committed rows, in a fresh clone."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recuse.analysis.contradictions import met
from recuse.analysis.elsewhere import elsewhere, own
from recuse.analysis.networks import gather
from recuse.analysis.operating_points import read_tables
from recuse.analysis.verdicts import verdicts
from recuse.records.run_folder import read_run
from recuse.records.store import holds_records
from recuse.report.study import study_of

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
# Run folders whose config names a page; `recuse report` writes it.
RUNS = sorted(path.parent for path in RESULTS.rglob("config.json") if study_of(path.parent))
WRITE = """
import sys
from pathlib import Path
from recuse.report.study import study_of, write_study
out = Path(sys.argv[1])
write_study(study_of(out), out, out)
"""
MADE = ("README.md", "*.svg", "*.png", "report.html")


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_page_of_a_run_is_what_report_makes_of_its_records(run, tmp_path, monkeypatch):
    monkeypatch.delenv("RECUSE_DATA", raising=False)
    out = tmp_path / run.name
    shutil.copytree(run, out, ignore=shutil.ignore_patterns(*MADE))
    # Runtime type checks make the searches of a page several times slower.
    subprocess.run([sys.executable, "-c", WRITE, str(out)], check=True)
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


@pytest.mark.slow
def test_every_page_knows_what_any_attack_broke_of_a_network():
    """Otherwise: ``recuse records gather RUN OTHERS``, pack, report."""
    folders = [read_run(run) for run in RUNS if holds_records(run / "records")]
    assert len(folders) > 6
    unknown = [
        (run.name, other.name, record.meta.model, lost)
        for run in folders
        for other in folders
        if run is not other
        for record, lost in elsewhere(run, other)
    ]
    assert unknown == []


def test_ways_to_abstain_are_counted_by_all_that_is_known_of_their_networks():
    run, tables = read_run(RESULTS / "selectors"), read_tables(RESULTS / "selectors")
    for known in gather([verdicts(record) for record in run.records], run.attacks):
        for radius in known.radii():
            missed = known.broken(radius) & ~tables[known.meta.model].broken(radius)
            assert not missed.any(), (known.meta.model, radius)


def test_an_adversary_of_a_whole_system_broke_no_promise_but_those_that_pages_name():
    promised, broken = 0, {}
    for run in (RESULTS / "frontier", *sorted((RESULTS / "runs").iterdir()), RESULTS / "losses"):
        folder = read_run(run)
        judged = gather([verdicts(record) for record in own(folder.records)])
        systems_met = met(folder.attacks, judged)
        found = [one for one in systems_met if " → " in one.name or "mixture(" in one.name]
        broken |= {one.name: int(one.contradictions) for one in found if one.contradictions}
        photographs = [one for one in found if one.dataset.startswith("cifar10")]
        promised += sum(int(one.promised.sum()) for one in photographs)
    page = (ROOT / "docs" / "soundness.md").read_text("utf-8")
    assert f"0 of {promised} on CIFAR-10" in page
    # Attacks on each network had called them sound; the page counts them as broken.
    assert broken == {"gtsrb-trades-2: indicator → gtsrb-core": 2}


def test_the_share_of_the_soft_miss_on_right_answers_is_that_of_the_rows():
    """Wrong answers miss by at most 1, right ones by what their confidence lacks."""
    judged = gather([verdicts(record) for record in read_run(RESULTS / "runs" / "cifar10").records])
    start = max((m for m in judged if m.meta.model == "adversarial"), key=lambda m: m.samples)
    right = start.accurate()
    lacking = (1 - start.frame["confidence"].to_numpy())[right].sum()
    share = round(100 * lacking / (lacking + (~right).sum()))
    page = (ROOT / "docs" / "results.md").read_text("utf-8")
    assert f"At least {share} % of the soft miss" in " ".join(page.split())
