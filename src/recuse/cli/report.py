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

    Several runs, data sets and radii are compared in the same tables and figures. A run whose
    config names a study gets that study's page too, README.md and its figures beside the rows; a
    study without records of networks gets its page alone. --out leaves the run folders as they are.

    Args:
        runs: Run folders, or folders of records.
        out: The file; by default report.html in the first run folder.
        figures: Also write every figure as SVG, PNG and PDF, into a folder figures beside it.
        tables: Also write every table as CSV and LaTeX into this folder.
    """
    from recuse.cli.console import console
    from recuse.errors import ConfigError
    from recuse.records.layout import PAGE, RECORDS, REPORT
    from recuse.records.store import holds_records
    from recuse.report.run.report import write_report
    from recuse.report.study import study_of, write_study

    if not runs:
        raise ConfigError("no run to report on; give at least one run folder")
    for run in runs if out is None else ():
        if study := study_of(run):
            write_study(study, run, run)
            console.print(f"wrote {run / PAGE}")
    reported = [
        run
        for run in runs
        if holds_records(run / RECORDS) or holds_records(run) or not study_of(run)
    ]
    if not reported:
        return
    path = out or reported[0] / REPORT
    write_report(
        reported, path, figures=path.parent / "figures" if figures else None, tables=tables
    )
    console.print(f"wrote {path}")
