"""``recuse paper``: the paper's tables and figures from its published logs."""

from pathlib import Path


def paper(logs: Path, out: Path = Path("runs/paper")) -> None:
    """Rebuild the paper's tables and figures from per-sample logs, without a weight.

    Leaves report.html, cells.csv (every printed number beside its value), points.csv,
    accounting.csv, figures/ (SVG, PNG, PDF) and tables/ (CSV, LaTeX).

    Args:
        logs: Folder of published logs: tidy parquet files, CSV trees, or both, with
            paper_cells.csv and figure_points.csv where there are printed numbers.
        out: Folder to write to.
    """
    from rich.console import Console

    from recuse.report.paper.report import run_paper

    report = run_paper(logs, out)
    console = Console(soft_wrap=True, highlight=False)
    states = [cell.status for cell in report.cells]
    if states:
        counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
        console.print(f"{len(states)} printed cells: {counts}", markup=False)
    console.print(f"{len(report.logs.imports)} logs, {len(report.counted)} compositions")
    console.print(str(report.html), markup=False)
