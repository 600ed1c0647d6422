"""Records from wherever they lie: a run folder, or published logs of the paper's layout."""

from pathlib import Path

from recuse.errors import RecordError
from recuse.records.layout import RECORDS
from recuse.records.reference_logs import read_logs
from recuse.records.schema import Record
from recuse.records.store import holds_records, read_records


def load_records(path: Path) -> list[Record]:
    """All records of a run folder, or of a folder of published logs (verdicts made monotone).

    Raises:
        RecordError: Neither, or damaged.
    """
    if not path.is_dir():
        raise RecordError(f"{path} is not a folder; give a run folder or a folder of logs")
    if holds_records(path / RECORDS) or holds_records(path):
        return list(read_records(path))
    return [item.record for item in read_logs(path).imports]
