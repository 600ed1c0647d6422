"""``recuse records``: keep, convert, compare and bring together what runs have found."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

Runs = Annotated[
    Positional[tuple[Path, ...]], arg(metavar="RUN", help_behavior_hint="(one or more)")
]


def pack(runs: Runs, /) -> None:
    """Put all records of each run folder into one file.

    Every command reads a packed run as before, and one that judges more of a record takes it out
    again. Nothing is removed before the file was read back and compared.

    Args:
        runs: Run folders, or folders of records.
    """
    from rich.console import Console

    from recuse.records.packing import folders_of_records
    from recuse.records.packing import pack as pack_records

    console = Console(soft_wrap=True, highlight=False)
    for folder in [folder for run in _some(runs) for folder in folders_of_records(run)]:
        before = _files(folder)
        count = len(pack_records(folder, waiting=_waiting))
        after = _files(folder)
        console.print(
            f"{folder}: {count} record{'s' * (count > 1)}, {before[0]} files of "
            f"{before[1] / 1e3:.0f} kB are now {after[0]} of {after[1] / 1e3:.0f} kB"
        )


def upgrade(runs: Runs, /) -> None:
    """Convert run folders of older versions into what this version writes.

    They are read as they are, too; converted, every file has a checksum and a finished record one
    shard, and the config can be run again. No number changes: recuse records hash stays the same.

    Args:
        runs: Run folders, or folders of records.
    """
    from recuse.records.upgrade import upgrade as upgrade_run

    for run in _some(runs):
        converted = upgrade_run(run, _waiting)
        for path in converted:
            print(f"converted {path}")
        if not converted:
            print(f"{run}: nothing to convert")


def hash_(runs: Runs, /, each: bool = False) -> None:
    """Print the SHA-256 of what was found: equal for equal verdicts on the same samples.

    It depends on no order, no cut into shards or batches and no packing, and leaves out what
    judging cost and softmax outputs, whose last bits depend on the batch.

    Args:
        runs: Run folders, or folders of records.
        each: Print one line a record, with its model.
    """
    from recuse.records.hashes import record_hash, records_hash
    from recuse.records.packing import folders_of_records
    from recuse.records.store import read_records

    folders = [folder for run in _some(runs) for folder in folders_of_records(run)]
    records = [record for folder in folders for record in read_records(folder)]
    if each:
        for record in records:
            print(f"{record_hash(record)}  {record.meta.model}")
    else:
        print(records_hash(records))


def gather(run: Path, others: Runs, /) -> None:
    """Take into a run what attacks in other runs broke of its networks.

    Networks are told by their weights. Whatever reads the run counts it from then on: show,
    compose, report. Given again, it takes in what has been found since.

    Args:
        run: Run folder that shall know it.
        others: Run folders of some of the same networks.
    """
    from recuse.analysis.elsewhere import elsewhere
    from recuse.records.layout import RECORDS
    from recuse.records.run_folder import read_run
    from recuse.records.store import write_record

    records = run / RECORDS if (run / RECORDS).is_dir() else run
    for other in _some(others):
        taken = elsewhere(read_run(run), read_run(other))
        for record, lost in taken:
            write_record(records, record)
            counts = ", ".join(f"{count} at {radius}" for radius, count in lost.items())
            print(f"{record.meta.model}: {counts} broken in {other}")
        if not taken:
            print(f"{other}: nothing that {run} does not know")


def _some(runs: tuple[Path, ...]) -> tuple[Path, ...]:
    from recuse.errors import ConfigError

    if not runs:
        raise ConfigError("no run named; give at least one run folder")
    return runs


def _files(folder: Path) -> tuple[int, int]:
    """How many files lie below a folder, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def _waiting(owner: str) -> None:
    from recuse.cli.console import console

    console.print(f"waiting for {owner}, which writes a record here")
