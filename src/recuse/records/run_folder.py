"""What a run leaves behind: records, config, logs, pictures, and rates of compositions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from recuse.errors import ConfigError, RecordError
from recuse.radius import format_radius, parse_radius
from recuse.records.layout import (
    COMPOSITION_RATES,
    COMPOSITION_RECORDS,
    CONFIG,
    ENVIRONMENT,
    GALLERY,
    GALLERY_PICTURES,
    REGIONS,
    TRAINING,
    TRAINING_LOGS,
)
from recuse.records.parquet import POLARS_ERRORS
from recuse.records.regions import Regions, read_regions
from recuse.records.schema import Record
from recuse.records.store import holds_records, read_parquet, read_records, write_atomically
from recuse.serialize import parse_json

# Of the adversary, which counting again must not lose.
_ATTACKED = ("attacked", "images")
# What values of another kind than is expected raise.
_MISFITS = (AttributeError, KeyError, TypeError, ValueError, OverflowError)
Entry = Mapping[str, Any]
Key = tuple[str, str, str]
_GALLERY_COLUMNS = ("sample_id", "label", "prediction", "image")


@dataclass(frozen=True)
class RunFolder:
    """A run folder's contents; whatever it does not hold is empty or None.

    Attributes:
        path: The folder.
        name: What the report calls it.
        records: What was judged.
        config: ``config.json``.
        environment: ``environment.json``.
        training: Training log of each model, one row per epoch.
        gallery: ``gallery.parquet``: inputs that were abstained on.
        attacked: Robust accuracy of compositions under attack, by (composition, eps).
        attacks: Rows of such attacks.
        regions: Decision maps of models of the plane.
    """

    path: Path
    name: str
    records: tuple[Record, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    gallery: pl.DataFrame | None = None
    attacked: Mapping[tuple[str, str], float] = field(default_factory=dict)
    attacks: tuple[Record, ...] = ()
    regions: Regions | None = None

    @property
    def eps(self) -> frozenset[str]:
        """The attacker's radii that the run was made for; empty where the config names none."""
        listed = self.config.get("eps", ())
        values = listed if isinstance(listed, list) else [listed]
        try:
            return frozenset(format_radius(parse_radius(value)) for value in values)
        except (ConfigError, TypeError):
            return frozenset()


def read_run(path: Path, name: str = "") -> RunFolder:
    """Read a run folder (or a bare folder of records).

    Args:
        path: The folder.
        name: What to call it; the folder's name if empty.

    Raises:
        RecordError: No records, or a file that is damaged.
    """
    called = name or path.resolve().name
    regions = path / REGIONS
    return RunFolder(
        path=path,
        name=called,
        records=tuple(read_records(path)),
        config=read_mapping(path / CONFIG),
        environment=read_mapping(path / ENVIRONMENT),
        training=_read_training(path / TRAINING),
        gallery=_read_gallery(path),
        attacked=_read_attacked(path / COMPOSITION_RATES),
        attacks=attack_records(path),
        regions=read_regions(regions) if regions.is_file() else None,
    )


def attack_records(run: Path) -> tuple[Record, ...]:
    """Rows of the attacks on compositions of a run folder; none where there was no attack.

    Raises:
        RecordError: A damaged shard.
    """
    folder = run / COMPOSITION_RECORDS
    return tuple(read_records(folder)) if holds_records(folder) else ()


def read_json(path: Path) -> Any:
    """Read a JSON file; None where there is none.

    Raises:
        RecordError: Not JSON.
    """
    if not path.is_file():
        return None
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, why: object) -> RecordError:
    return RecordError(f"{path} is damaged ({why}); delete it, or rerun what wrote it")


def read_mapping(path: Path) -> Mapping[str, Any]:
    """Read a JSON object; empty where there is no file.

    Raises:
        RecordError: Not a JSON object.
    """
    content = read_json(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise _damaged(path, "a JSON object is expected")
    return content


def _read_training(folder: Path) -> dict[str, pl.DataFrame]:
    """``training/MODEL.jsonl`` or ``training/MODEL/*.jsonl``, one JSON object an epoch."""
    logs = {path.stem: path for path in sorted(folder.glob(TRAINING_LOGS))}
    logs |= {path.parent.name: path for path in sorted(folder.glob(f"*/{TRAINING_LOGS}"))}
    return {name: frame for name, path in logs.items() if (frame := _read_log(path)) is not None}


def _read_log(path: Path) -> pl.DataFrame | None:
    try:
        lines = [parse_json(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        epochs = [line for line in lines if isinstance(line, dict) and "epoch" in line]
        return pl.DataFrame(epochs, infer_schema_length=None) if epochs else None
    except (OSError, ValueError, TypeError, OverflowError, *POLARS_ERRORS) as error:
        raise _damaged(path, error) from error


def _read_gallery(folder: Path) -> pl.DataFrame | None:
    paths = [folder / GALLERY / GALLERY_PICTURES, folder / GALLERY_PICTURES]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        return None
    frame = read_parquet(path)
    if missing := [column for column in _GALLERY_COLUMNS if column not in frame.columns]:
        raise _damaged(path, f"column {missing[0]!r} is missing")
    return frame


def _read_attacked(path: Path) -> dict[tuple[str, str], float]:
    """Entries ``{"name", "eps", "attacked"}``; entries without an attack say nothing here."""
    content = read_json(path)
    if content is None:
        return {}
    try:
        return {
            (str(entry["name"]), format_radius(parse_radius(entry["eps"]))): float(
                entry["attacked"]
            )
            for entry in content
            if entry.get("attacked") is not None
        }
    except (ConfigError, *_MISFITS) as error:
        raise _damaged(path, error) from error


def read_compositions(path: Path) -> dict[Key, Entry]:
    """Entries by name, eps and kind, in the order of the file; none where there is no file.

    Raises:
        RecordError: Not such a file.
    """
    try:
        return {_key(entry): entry for entry in read_json(path) or []}
    except (ConfigError, *_MISFITS) as error:
        raise RecordError(
            f"{path} does not hold the rates of compositions; choose another file or delete it"
        ) from error


def keep_compositions(path: Path, entries: Sequence[Entry]) -> None:
    """Put entries into the file, where other compositions and radii stay.

    So does what an attack found on a composition that is only counted anew.

    Raises:
        RecordError: The file holds something else, or cannot be written.
    """
    kept = read_compositions(path)
    for entry in entries:
        old = kept.pop(_key(entry), {})
        kept[_key(entry)] = {k: old[k] for k in _ATTACKED if k in old} | dict(entry)
    text = json.dumps([dict(entry) for entry in kept.values()], indent=1, ensure_ascii=False)
    write_atomically(path, f"{text}\n".encode())


def _key(entry: Entry) -> Key:
    """Name, eps in one spelling, and what the selectors rest on (attacks unless it says)."""
    eps = format_radius(parse_radius(entry["eps"]))
    return str(entry["name"]), eps, str(entry.get("kind", "robust"))
