"""``recuse compose``: what a robust model in front of an accurate one is worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from recuse.analysis.compositions import Composed
    from recuse.analysis.verdicts import Kind
    from recuse.cli.compositions import Entry, Key

JudgedBy = Literal["auto", "attacks", "certificates"]
_KINDS: "dict[JudgedBy, Kind | None]" = {
    "auto": None,
    "attacks": "robust",
    "certificates": "certified",
}


def compose(
    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN")],
    /,
    eps: str,
    stages: tuple[str, ...] = (),
    core: str | None = None,
    judged_by: JudgedBy = "auto",
    out: Path | None = None,
) -> None:
    """Count natural and robust accuracy of compositions from their models' records.

    A stage answers where no perturbation within eps changes it; the core answers the rest. The
    sound number is a lower bound on robust accuracy (as strong as the attack, or proven); the
    paper's way of counting stands beside it, and what recuse attack found on a composition, if it
    left its rates in one of the run folders.

    Args:
        runs: Run folders whose records hold the models, attacked or certified at eps and twice
            eps.
        eps: The attacker's radius, for example 2/255.
        stages: Models in the order in which they answer; by default each robust model alone.
        core: The model that always answers; by default the one whose role is core.
        judged_by: Count with attacks or with certificates; auto takes attacks where there are any.
            By certificates, a core that has none counts as never robust.
        out: Put the numbers into this JSON file as well; other compositions and radii in it stay.
    """
    from recuse.analysis.compositions import compose_records
    from recuse.cli.compositions import COMPOSITIONS, keep_compositions, read_compositions
    from recuse.records.store import read_records

    known: dict[Key, Entry] = {}
    for run in runs:
        known |= read_compositions(run / COMPOSITIONS)
    records = [record for run in runs for record in read_records(run)]
    composed = compose_records(records, eps=eps, core=core, stages=stages, kind=_KINDS[judged_by])
    entries = [_with_attack(entry, known) for entry in composed]
    if out is not None:
        keep_compositions(out, entries)
    _print(entries)


def _with_attack(composed: "Composed", known: "Mapping[Key, Entry]") -> "Entry":
    """The counts, and the attacked accuracy where the adversary met the same composition."""
    from recuse.cli.compositions import ATTACKED, key_of

    counted = composed.as_dict()
    found = known.get(key_of(counted), {})
    return counted | {k: found[k] for k in ATTACKED if found.get(k) is not None}


def _print(entries: "Sequence[Entry]") -> None:
    from rich.table import Table

    from recuse.cli.console import table_console

    proven = any(entry["kind"] == "certified" for entry in entries)
    attacked = any("attacked" in entry for entry in entries)
    table = Table(
        "composition",
        "natural",
        "robust (sound, proven)" if proven else "robust (sound)",
        *(["robust (attacked)"] * attacked),
        "robust (paper)",
        "core answers",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for entry in entries:
        natural, sound, paper, core = (
            f"{100 * entry[k]:.1f}" for k in ("natural", "sound", "paper", "core_share")
        )
        table.add_row(entry["name"], natural, sound, *([_attacked(entry)] * attacked), paper, core)
    table_console().print(table)


def _attacked(entry: "Entry") -> str:
    if "attacked" not in entry:
        return "-"
    of = f" ({entry['images']} images)" if "images" in entry else ""
    return f"{100 * entry['attacked']:.1f}{of}"
