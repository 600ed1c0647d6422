"""``recuse compose``: what a robust model in front of an accurate one is worth."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def compose(
    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN")],
    /,
    eps: str,
    stages: tuple[str, ...] = (),
    core: str | None = None,
    out: Path | None = None,
) -> None:
    """Count natural and robust accuracy of compositions from their models' records.

    A stage answers where no perturbation within eps changes it; the core answers the rest. The
    sound number is a lower bound on robust accuracy (as strong as the attack); the paper's way
    of counting stands beside it.

    Args:
        runs: Run folders whose records hold the models, judged at eps and twice eps.
        eps: The attacker's radius, for example 2/255.
        stages: Models in the order in which they answer; by default each robust model alone.
        core: The model that always answers; by default the one whose role is core.
        out: Write the numbers to this JSON file as well.
    """
    import json

    from rich.table import Table

    from recuse.analysis.compositions import compose_records
    from recuse.cli.console import table_console
    from recuse.records.store import read_records, write_atomically

    records = [record for run in runs for record in read_records(run)]
    composed = compose_records(records, eps=eps, core=core, stages=stages)
    table = Table("composition", "natural", "robust (sound)", "robust (paper)", "core answers")
    for column in table.columns[1:]:
        column.justify = "right"
    for entry in composed:
        rates = (entry.natural, entry.sound, entry.paper, entry.core_share)
        table.add_row(entry.name, *(f"{100 * rate:.1f}" for rate in rates))
    if out is not None:
        text = json.dumps([entry.as_dict() for entry in composed], indent=1)
        write_atomically(out, text.encode())
    table_console().print(table)
