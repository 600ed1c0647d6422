"""Run folders of older versions in the shape that this version writes; no number changes."""

from collections.abc import Callable
from pathlib import Path

from recuse.records.configs import config_text, read_config
from recuse.records.layout import CONFIG, LOCK, SHARD
from recuse.records.lock import locked
from recuse.records.packing import folders_of_records
from recuse.records.store import Shards, read_record, record_folders, write_atomically


def upgrade(run: Path, waiting: Callable[[str], None]) -> list[Path]:
    """Convert the config and the records of a run folder, or of a folder of records.

    Records get checksums and one shard each. A kill leaves each file as it was or converted, and
    the same call goes on.

    Args:
        run: The folder.
        waiting: Told who writes a record, while another process does.

    Returns:
        What was converted; nothing where all is of this version.

    Raises:
        RecuseError: Something damaged or of a newer version, or a folder without records.
    """
    folders = [folder for records in folders_of_records(run) for folder in record_folders(records)]
    converted = [folder for folder in folders if _upgrade_record(folder, waiting)]
    path = run / CONFIG
    if path.is_file():
        text = config_text(read_config(path)).encode()
        if path.read_bytes() != text:
            write_atomically(path, text)
            converted.append(path)
    return converted


def _upgrade_record(folder: Path, waiting: Callable[[str], None]) -> bool:
    with locked(folder / LOCK, waiting):
        record = read_record(folder)
        shards = Shards(folder, record.meta)
        parts = shards.paths
        told = shards.write_meta()
        names = [SHARD.fullmatch(path.name) for path in parts]
        if len(parts) > 1 or not all(name and name[1] for name in names):
            shards.replace(parts, record.frame)
            return True
    return told


__all__ = ["upgrade"]
