"""``recuse report``: run folders as one HTML file."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def report(
    runs: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="RUN", help_behavior_hint="(one or more)")
    ],
    /,
    out: Path | None = None,
    figures: bool = False,
    tables: Path | None = None,
) -> None:
    """Write what runs found as one HTML file that needs no network.

    Several runs, data sets and radii are compared in the same tables and figures.

    Args:
        runs: Run folders, or folders of records.
        out: The file; by default report.html in the first run folder.
        figures: Also write every figure as SVG, PNG and PDF, into a folder figures beside it.
        tables: Also write every table as CSV and LaTeX into this folder.
    """
    from recuse.cli.console import console
    from recuse.errors import ConfigError
    from recuse.records.layout import REPORT
    from recuse.report.run.report import write_report

    if not runs:
        raise ConfigError("no run to report on; give at least one run folder")
    path = out or runs[0] / REPORT
    write_report(runs, path, figures=path.parent / "figures" if figures else None, tables=tables)
    console.print(f"wrote {path}")
