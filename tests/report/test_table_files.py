"""Tables as files: every number in full as CSV, what is printed as LaTeX."""

import csv
import shutil
import subprocess
from pathlib import Path

import pytest

from recuse.cli.main import main
from recuse.report.page.blocks import Column, Points, Rate, Spread, Table
from recuse.report.page.table_files import table_csv, table_latex
from recuse.report.run.report import build_report

TABLE = Table(
    "Rates & more",
    (Column("model"), Column("robust", unit="%"), Column("gain", unit="points"), "n"),
    (
        ("ERA β=0.1_x", Rate(1 / 3, 0.3, 0.4), Points(-0.0123, -0.02, -0.01), 12345),
        ("core", Rate(0.25), None, 7),
    ),
    winners=frozenset({(0, 1)}),
)


def test_csv_keeps_every_digit_and_the_ends_of_intervals() -> None:
    heading, first, second = csv.reader(table_csv(TABLE).splitlines())
    assert heading == [
        *("model", "robust", "robust low", "robust high"),
        *("gain", "gain low", "gain high", "n"),
    ]
    assert [float(cell) for cell in first[1:]] == [1 / 3, 0.3, 0.4, -0.0123, -0.02, -0.01, 12345]
    assert second == ["core", "0.25", "", "", "", "", "", "7"]


def test_a_spread_has_its_deviation() -> None:
    table = Table("t", ("robust",), ((Spread(0.5, 0.01),),))
    assert table_csv(table) == "robust,robust sd\n0.5,0.01\n"


def test_latex_prints_what_the_page_shows() -> None:
    text = table_latex(TABLE)
    assert r"\begin{tabular}{lrrr}" in text
    assert r"robust (\%)" in text
    assert r"ERA $\beta$=0.1\_x & \textbf{33.3} {\scriptsize 30.0–40.0}" in text
    assert r"$-$1.2 {\scriptsize $-$2.0 to $-$1.0}" in text


def test_every_table_of_a_report_is_written(tmp_path: Path) -> None:
    run = Path(__file__).parents[2] / "results" / "runs" / "digits"
    words = ["report", str(run), "--out", str(tmp_path / "r.html"), "--tables", str(tmp_path / "t")]
    main(words)
    sheets = sorted((tmp_path / "t").glob("*.csv"))
    assert len(sheets) == len(build_report([run]).tables()) > 3
    assert [s.with_suffix(".tex").is_file() for s in sheets] == [True] * len(sheets)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(tmp_path: Path) -> None:
    body = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "t.tex").write_text(f"{body}\n{table_latex(TABLE)}\n\\end{{document}}\n")
    subprocess.run(["pdflatex", "-interaction=batchmode", "t.tex"], cwd=tmp_path, check=True)
