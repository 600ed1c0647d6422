"""``recuse paper``: the paper's tables and figures from published per-sample logs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recuse.analysis.published.cells import Computed, cells_csv, compute_cells, read_cells
from recuse.analysis.published.counted import Counted, accounting_csv, count_all, samples_csv
from recuse.analysis.published.logs import PublishedLogs
from recuse.analysis.published.points import (
    Abstaining,
    PublishedPoint,
    abstaining,
    compare_points,
    points_csv,
)
from recuse.records.layout import REPORT
from recuse.records.reference_logs import Logs, read_logs
from recuse.records.store import write_atomically
from recuse.report.page.blocks import Block, Page, Section
from recuse.report.page.figures import save_figures
from recuse.report.page.html import render_html
from recuse.report.page.table_files import save_tables
from recuse.report.paper.accounting import accounting_section
from recuse.report.paper.figures import figure_section
from recuse.report.paper.fronts import cascade_section, front_section
from recuse.report.paper.overview import log_section, point_section, summary, tiles
from recuse.report.paper.printed import printed_tables
from recuse.report.paper.tables import computed_tables

CELLS = "paper_cells.csv"
POINTS = "figure_points.csv"


@dataclass(frozen=True)
class PaperReport:
    """What ``recuse paper`` found, and where it wrote it.

    Attributes:
        html: The report.
        logs: Everything that was read.
        cells: Printed cells beside their values; empty without a file of printed cells.
        points: Published points beside the computed ones; empty without a file of points.
        counted: Every composition, counted both ways.
        figures: Figure files.
    """

    html: Path
    logs: Logs
    cells: tuple[Computed, ...]
    points: tuple[PublishedPoint, ...]
    counted: tuple[Counted, ...]
    figures: tuple[Path, ...]


def run_paper(logs: Path, out: Path) -> PaperReport:
    """Rebuild every table and figure that the logs yield; everything is computed, then written.

    Writes ``report.html``, ``cells.csv`` (one row per printed cell), ``points.csv``,
    ``accounting.csv``, ``accounting_samples.csv``, ``figures/`` as SVG, PNG and PDF, and
    ``tables/`` as CSV and LaTeX.

    Args:
        logs: Folder of published logs: tidy parquet, CSV trees, or both; with
            ``paper_cells.csv`` and ``figure_points.csv`` where there are printed numbers to
            compare with.
        out: Folder to write to.

    Raises:
        RecordError: Logs that cannot be read or compared; nothing is written.
    """
    read = read_logs(logs)
    book = PublishedLogs(read.imports)
    cells = compute_cells(read_cells(logs / CELLS), book) if (logs / CELLS).is_file() else []
    points = compare_points(logs / POINTS, book) if (logs / POINTS).is_file() else []
    models = {dataset: abstaining(book, dataset) for dataset in book.datasets}
    counted = count_all([m for found in models.values() for m in found])
    page = paper_page(read, book, cells, points, models, counted)
    html = render_html(page)
    write_atomically(out / REPORT, html.encode())
    write_atomically(out / "cells.csv", cells_csv(cells))
    write_atomically(out / "points.csv", points_csv(points))
    write_atomically(out / "accounting.csv", accounting_csv(counted))
    write_atomically(out / "accounting_samples.csv", samples_csv(counted))
    figures = save_figures(page, out / "figures")
    save_tables(page, out / "tables")
    return PaperReport(out / REPORT, read, tuple(cells), tuple(points), tuple(counted), figures)


def paper_page(
    logs: Logs,
    book: PublishedLogs,
    cells: Sequence[Computed],
    points: Sequence[PublishedPoint],
    models: Mapping[str, Sequence[Abstaining]],
    counted: Sequence[Counted],
) -> Page:
    """The report as a value."""
    sections = [
        log_section(logs),
        figure_section(book, models),
        Section(
            "Tables from the logs",
            tuple(computed_tables(book, cells, models)),
            "The paper's tables in form, for every model of the logs.",
        ),
        front_section(counted, cells),
        accounting_section(counted),
        cascade_section(book),
    ]
    if cells:
        printed: tuple[Block, ...] = tuple(printed_tables(cells))
        section = Section(
            "Printed cells", printed, "Each cell beside its value from the published verdicts."
        )
        sections.insert(0, section)
    if points:
        sections.append(point_section(points))
    return Page(
        title="The paper's evidence, recomputed from its own logs",
        summary=summary(logs, book, cells, points, counted),
        sections=tuple(sections),
        subtitle=", ".join(book.datasets),
        tiles=tiles(logs, cells, points),
        footer="Computed from per-sample verdicts alone; no network was run.",
    )
