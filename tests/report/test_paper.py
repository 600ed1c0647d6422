"""The paper from its logs: every printed cell, and any other logs of the same layout."""

import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recuse.analysis.abstainers import network
from recuse.analysis.published.cells import Printed, cells_csv, compute_cells, half_unit, read_cells
from recuse.analysis.published.logs import PublishedLogs
from recuse.analysis.published.points import compare_points
from recuse.analysis.verdicts import Verdicts
from recuse.errors import RecordError
from recuse.records.reference_logs import read_logs
from recuse.records.schema import RecordMeta
from recuse.report.paper.report import run_paper

PREFIX = {"std": "m_std_", "era": "m_era_", "trades": "m_trades_"}
FOLDERS = {
    "std": "std/rail/m_rail_std__20240101_0000",
    "era": "mrevadv/rail/Linf/2_255/mra2_255__m_rail_trades2_255__20240102_0000",
    "trades": "adv/rail/Linf/m_rail_trades2_255ft__20240103_0000",
}


def rail_log(kind: str, seed: int, samples: int = 200) -> pl.DataFrame:
    """A five-class rail log in the published layout."""
    rng = np.random.default_rng(seed)
    hard = rng.random(samples) < {"std": 0.9, "era": 0.2, "trades": 0.15}[kind]
    near = ~hard & (rng.random(samples) < 0.9)
    prefix = PREFIX[kind]
    return pl.DataFrame(
        {
            "": np.arange(samples),
            "sample_idx": np.arange(samples),
            f"{prefix}is_acc": (rng.random(samples) < 0.9).astype(int),
            f"{prefix}is_rob1_255": (~hard).astype(int),
            f"{prefix}is_rob2_255": near.astype(int),
            f"{prefix}pred": rng.integers(0, 5, samples),
        }
    )


@pytest.fixture
def rail(tmp_path: Path) -> Path:
    """Logs of a data set the paper does not print, as CSV trees only."""
    for seed, (kind, folder) in enumerate(FOLDERS.items()):
        path = tmp_path / "logs" / folder / "testset_rail_Linf_apgd.csv"
        path.parent.mkdir(parents=True)
        rail_log(kind, seed).write_csv(path)
    return tmp_path / "logs"


def write_cells(logs: Path, rows: list[dict[str, str]]) -> None:
    blank = dict.fromkeys(
        ["table", "row", "column", "eps", "formula_id", "log_dirs", "paper_value"], ""
    )
    pl.DataFrame([blank | row for row in rows]).write_csv(logs / "paper_cells.csv")


def test_every_published_cell_and_point_comes_out(shared_reference: Path) -> None:
    book = PublishedLogs(read_logs(shared_reference).imports)
    path = shared_reference / "paper_cells.csv"
    given = pl.read_csv(path, infer_schema=False)
    cells = compute_cells(read_cells(path), book)
    assert [c.status for c in cells] == given["status"].to_list()
    for cell, value in zip(cells, given["recomputed_value"], strict=True):
        assert cell.value == pytest.approx(float(value), abs=6e-5)
    points = compare_points(shared_reference / "figure_points.csv", book)
    assert {p.status for p in points} == {"match"}


def test_a_million_rows_are_aggregated_in_two_seconds(shared_reference: Path) -> None:
    book = PublishedLogs(read_logs(shared_reference).imports)
    assert sum(e.raw.samples for e in book.entries) > 1_000_000
    cells = read_cells(shared_reference / "paper_cells.csv")
    start = time.process_time()
    compute_cells(cells, book)
    for entry in book.entries:
        accurate = entry.raw.accurate()
        for eps in entry.raw.radii():
            (accurate & entry.raw.robust(eps)).mean()
    assert time.process_time() - start < 2


@pytest.mark.slow
def test_the_whole_report_is_written_in_a_minute(shared_reference: Path, tmp_path: Path) -> None:
    start = time.process_time()
    report = run_paper(shared_reference, tmp_path / "out")
    assert time.process_time() - start < 60
    html = report.html.read_text()
    for words in ("Table 9", "Figures 4 and 9", "What the accounting hides", "Cascades"):
        assert words in html
    assert {f.suffix for f in report.figures} == {".svg", ".png", ".pdf"}
    written = pl.read_csv(tmp_path / "out" / "cells.csv", infer_schema=False)
    expected = ["table", "row", "column", "formula_id", "paper_value", "value", "status"]
    assert written.columns == expected
    assert written.height == len(report.cells)
    accounting = pl.read_csv(tmp_path / "out" / "accounting.csv")
    softmax = pl.col("method") == "SR"
    # No log holds what a bound for softmax response takes: nothing is printed, nothing guessed.
    assert accounting.filter(softmax)["robust_sound"].null_count() == 200
    assert accounting.filter(~softmax)["robust_sound"].null_count() == 0
    for c in report.counted:
        assert c.sound is None or not (c.sound & ~c.natural).any()


def test_other_data_sets_yield_a_report(rail: Path, tmp_path: Path) -> None:
    report = run_paper(rail, tmp_path / "out")
    assert report.cells == ()
    assert "rail/test" in report.html.read_text()
    table = pl.read_csv(tmp_path / "out" / "accounting.csv")
    # The core is no stage; each other model is one at 1/255 only, where 2/255 is known too.
    assert table.select("model", "eps").rows() == [
        ("m_rail_trades2_255ft__20240103_0000", "1/255"),
        ("mra2_255__m_rail_trades2_255__20240102_0000", "1/255"),
    ]
    assert (table["robust_sound"] <= table["robust_paper_repaired"]).all()


def test_cells_of_any_data_set_are_computed_or_say_why_not(rail: Path) -> None:
    rows = [
        {"table": "T6", "column": "d_nat", "formula_id": "F_COMP2_NAT-F_NAT(core)"},
        {"table": "T6", "column": "R_rob", "formula_id": "F_COMP2_ROB diff"},
        {"table": "T1", "formula_id": "F_RI", "eps": "8_255"},
        {"table": "T1", "formula_id": "F_RI", "log_dirs": "adv/rail/Linf/gone"},
        {"table": "T1", "formula_id": "F_MAGIC"},
        {"table": "TEXT", "formula_id": "count of d_nat>0 in T6"},
    ]
    pair, triple = (
        f"{FOLDERS['era']};{FOLDERS['std']}",
        f"{FOLDERS['era']};{FOLDERS['trades']};{FOLDERS['std']}",
    )
    logs = [pair, triple, FOLDERS["era"], "", FOLDERS["era"], ""]
    filled = [
        {"eps": "1_255", "paper_value": "1.0", "log_dirs": log} | row
        for row, log in zip(rows, logs, strict=True)
    ]
    write_cells(rail, filled)
    cells = compute_cells(
        read_cells(rail / "paper_cells.csv"), PublishedLogs(read_logs(rail).imports)
    )
    era, std = rail_log("era", 1), rail_log("std", 0)
    acc, core = era["m_era_is_acc"].to_numpy(), std["m_std_is_acc"].to_numpy()
    natural = np.where(era["m_era_is_rob2_255"].to_numpy() == 1, acc, core).mean() - core.mean()
    assert cells[0].value == pytest.approx(100 * natural)
    assert cells[1].value is not None
    assert [c.status for c in cells[2:]] == [
        "missing-log",
        "missing-log",
        "not-from-logs",
        "not-from-logs",
    ]
    assert "robust@8/255" in cells[2].reason
    assert "gone" in cells[3].reason
    assert cells[5].value == (100 if natural > 0 else 0)
    written = pl.read_csv(cells_csv(cells), infer_schema=False)
    assert written["value"][2] in ("", None)


def test_cells_without_labels_say_so(rail: Path) -> None:
    path = rail / FOLDERS["era"] / "testset_rail_Linf_apgd.csv"
    pl.read_csv(path).drop("m_era_is_acc").write_csv(path)
    book = PublishedLogs(read_logs(rail).imports)
    formulas = ("F_RA", "F_SEL2")
    cells = [Printed("T1", "", "", "1/255", f, (FOLDERS["era"],), "50.0") for f in formulas]
    labelled, free = compute_cells(cells, book)
    assert labelled.status == "missing-log"
    assert "label-free" in labelled.reason
    assert free.value is not None


def test_a_report_without_any_label_shows_what_needs_none(rail: Path, tmp_path: Path) -> None:
    for kind, folder in FOLDERS.items():
        path = rail / folder / "testset_rail_Linf_apgd.csv"
        pl.read_csv(path).drop(f"{PREFIX[kind]}is_acc").write_csv(path)
    report = run_paper(rail, tmp_path / "out")
    assert report.counted == ()
    assert "only label-free rates exist" in report.html.read_text()


def test_nothing_is_written_for_bad_logs(rail: Path, tmp_path: Path) -> None:
    path = rail / FOLDERS["era"] / "testset_rail_Linf_apgd.csv"
    pl.read_csv(path).rename({"m_era_is_acc": "m_era_right"}).write_csv(path)
    with pytest.raises(RecordError, match="m_era_right"):
        run_paper(rail, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["paper_cells.csv", "figure_points.csv"])
def test_a_table_of_printed_numbers_without_a_column_is_refused(rail: Path, file: str) -> None:
    (rail / file).write_text("table,row\nT1,x\n")
    with pytest.raises(RecordError, match=rf"{file}: column '\w+' is missing"):
        run_paper(rail, rail.parent / "out")


@pytest.mark.parametrize(
    ("text", "prose", "half"),
    [("26", False, 0.5), ("26.2", False, 0.05), ("1.34", True, 0.005), ("26.0", True, 0.5)],
)
def test_half_a_unit_of_the_last_printed_digit(text: str, prose: bool, half: float) -> None:
    assert half_unit(text, prose=prose) == pytest.approx(half)


def test_a_selection_network_is_judged_no_further_than_its_verdicts() -> None:
    columns = {
        "sample_id": list("ab"),
        "accurate": [True, True],
        "robust@1/255": [True, False],
        "robust@4/255": [True, False],
        "selected": [True, True],
        "selected_robust@2/255": [True, False],
    }
    meta = RecordMeta("m", "d/test", "pgd", "linf", ("1/255", "4/255"))
    model = Verdicts(meta, pl.DataFrame(columns))
    assert network(model, "1/255").selection == 0.5
    with pytest.raises(RecordError, match="R >= 4/255"):
        network(model, "4/255")
