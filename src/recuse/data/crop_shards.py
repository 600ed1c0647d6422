"""Parquet shards of crops that know what they were cut from, so that a rerun cuts what changed."""

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recuse.data.annotations import Part, Scene, Target
from recuse.data.crops import Crop, CropSettings, Skipped, crop_scene, scene_bytes
from recuse.errors import DataError
from recuse.progress import Progress
from recuse.records.store import write_atomically

Wanted = tuple[Scene, tuple[Target, ...]]
SKIPPED_SUFFIX = ".skipped.csv"
NOTES = "recuse"
_SKIPPED_SCHEMA = dict.fromkeys(("part", "scene", "key", "reason", "detail"), pl.String())
_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "img": pl.Struct({"bytes": pl.Binary, "path": pl.String}),
    "label": pl.Int64,
    "key": pl.String,
    "box": pl.List(pl.Int64),
    "mode": pl.String,
}


@dataclass(frozen=True)
class Mark:
    """What a shard remembers of a scene.

    Attributes:
        scene: Its name.
        digest: SHA-256 of its image; empty where there was none.
        keys: Objects that were to be cut out of it.
        used: Whether there are crops of it; else the image was missing or of no use.
    """

    scene: str
    digest: str
    keys: tuple[str, ...]
    used: bool


@dataclass(frozen=True)
class Shard:
    """One parquet file of crops, written or to be written.

    Attributes:
        path: The file.
        wanted: Scenes to cut, with the objects in them.
    """

    path: Path
    wanted: tuple[Wanted, ...]

    def marks(self) -> tuple[Mark, ...]:
        """What the file on disk was cut from; nothing where there is none."""
        return tuple(
            Mark(scene, digest, tuple(keys), used)
            for scene, digest, keys, used in self._notes().get("scenes", ())
        )

    def complete(self) -> bool:
        """Whether no class was left out of the file on disk."""
        return not self._notes().get("left_out")

    def cut(self, names: tuple[str, ...], settings: CropSettings) -> None:
        """Cut all scenes and write the file, with what was skipped beside it."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(lambda wanted: _cut(wanted, settings), self.wanted))
        crops = [item for _, items in found for item in items if isinstance(item, Crop)]
        skipped = [item for _, items in found for item in items if isinstance(item, Skipped)]
        index = {name: label for label, name in enumerate(names)}
        frame = pl.DataFrame(
            {
                "img": [{"bytes": crop.png, "path": f"{crop.key}.png"} for crop in crops],
                "label": [index[crop.label] for crop in crops],
                "key": [crop.key for crop in crops],
                "box": [list(crop.box) for crop in crops],
                "mode": [crop.mode for crop in crops],
            },
            schema=_SCHEMA,
        )
        listed = skipped_frame(self.path.parent.name, skipped)
        self._write(frame, listed, names, [mark for mark, _ in found], left_out=False)

    def counts(self) -> Counter[str]:
        """Crops per class in the file."""
        names = self._names()
        return Counter(names[label] for label in pl.read_parquet(self.path)["label"])

    def leave_out(self, kept: tuple[str, ...]) -> None:
        """Keep these classes only, in this order; objects of others are listed as skipped."""
        names = self._names()
        if names == kept:
            return
        frame = pl.read_parquet(self.path)
        named = pl.col("label").replace_strict(dict(enumerate(names)), return_dtype=pl.String)
        rare = frame.filter(~named.is_in(list(kept)))
        order = {name: place for place, name in enumerate(kept)}
        rest = frame.filter(named.is_in(list(kept))).with_columns(
            named.replace_strict(order, return_dtype=pl.Int64).alias("label")
        )
        scenes = {target.key: scene.name for scene, targets in self.wanted for target in targets}
        why = "too few training images of class {} could be cut"
        dropped = [
            Skipped(scenes[key], key, "rare class", f"{scenes[key]}, {key}: {why.format(names[k])}")
            for key, k in rare.select("key", "label").rows()
        ]
        listed = [read_skipped(self._skipped), skipped_frame(self.path.parent.name, dropped)]
        left_out = bool(dropped) or not self.complete()
        self._write(rest, pl.concat(listed), kept, self.marks(), left_out=left_out)

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)
        self._skipped.unlink(missing_ok=True)

    @property
    def _skipped(self) -> Path:
        return self.path.with_suffix(SKIPPED_SUFFIX)

    def _names(self) -> tuple[str, ...]:
        return tuple(self._notes().get("label_names", ()))

    def _notes(self) -> dict[str, Any]:
        if not self.path.is_file():
            return {}
        try:
            notes: dict[str, Any] = json.loads(pl.read_parquet_metadata(self.path).get(NOTES, "{}"))
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{self.path} is damaged ({reason}); delete it and rerun") from error
        return notes

    def _write(
        self,
        frame: pl.DataFrame,
        skipped: pl.DataFrame,
        names: tuple[str, ...],
        marks: Iterable[Mark],
        *,
        left_out: bool,
    ) -> None:
        label = {"names": list(names), "_type": "ClassLabel"}
        features = {"info": {"features": {"img": {"_type": "Image"}, "label": label}}}
        scenes = [(mark.scene, mark.digest, mark.keys, mark.used) for mark in marks]
        notes = {"label_names": names, "left_out": left_out, "scenes": scenes}
        buffer = io.BytesIO()
        metadata = {"huggingface": json.dumps(features), NOTES: json.dumps(notes)}
        frame.write_parquet(buffer, metadata=metadata)
        # The shard goes last: its presence says that both are there.
        write_atomically(self._skipped, skipped.write_csv().encode())
        write_atomically(self.path, buffer.getvalue())


def shards_of(folder: Path, wanted: Sequence[Wanted], size: int) -> tuple[Shard, ...]:
    """The shards of a part, of ``size`` scenes each."""
    starts = range(0, len(wanted), size)
    return tuple(
        Shard(folder / f"{number:05d}.parquet", tuple(wanted[start : start + size]))
        for number, start in enumerate(starts)
    )


def cut_shards(
    shards: Mapping[Part, Sequence[Shard]],
    names: tuple[str, ...],
    settings: CropSettings,
    progress: Progress,
) -> None:
    """Write the shards that are missing, and those with scenes whose image was of no use before.

    Raises:
        DataError: An image is not the one that the crops on disk were cut from.
    """
    stale: list[Shard] = []
    for own in shards.values():
        stale += _stale(own, progress)
    if stale:
        # Images that came may fill a class which had been left out for want of them.
        stale += [s for own in shards.values() for s in own if s not in stale and not s.complete()]
    done, total = 0, sum(len(shard.wanted) for shard in stale)
    for shard in stale:
        shard.cut(names, settings)
        done += len(shard.wanted)
        progress("crop", done, total)


def kept_classes(
    train: Sequence[Shard], names: tuple[str, ...], min_samples: int
) -> tuple[str, ...]:
    """The classes of which enough training images could be cut."""
    counts: Counter[str] = Counter()
    for shard in train:
        counts += shard.counts()
    return tuple(name for name in names if counts[name] >= min_samples)


def skipped_frame(part: str, skipped: Sequence[Skipped]) -> pl.DataFrame:
    """What was left out of a part, as rows."""
    rows = [{"part": part, **asdict(item)} for item in skipped]
    return pl.DataFrame(rows, schema=_SKIPPED_SCHEMA)


def read_skipped(path: Path) -> pl.DataFrame:
    """The rows that a shard left beside it."""
    return pl.read_csv(path.read_bytes(), schema=_SKIPPED_SCHEMA)


def _stale(shards: Sequence[Shard], progress: Progress) -> list[Shard]:
    """The shards of a part that have to be cut, checked against what is on disk."""
    folder = shards[0].path.parent if shards else None
    planned = {shard.path for shard in shards}
    there = [Shard(path, ()) for path in sorted(folder.glob("*.parquet"))] if folder else []
    known = {mark.scene: mark for shard in there for mark in shard.marks()}
    scenes = [scene for shard in shards for scene, _ in shard.wanted if scene.name in known]
    digests: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for scene, digest in zip(scenes, pool.map(_digest, scenes), strict=True):
            digests[scene.name] = digest
            progress("compare", len(digests), len(scenes))
            if known[scene.name].used and known[scene.name].digest != digest:
                raise DataError(
                    f"the image of {scene.name} is not the one that the crops in {folder} were cut "
                    "from; choose another folder"
                )
    for shard in there:
        if shard.path not in planned:
            shard.remove()
    return [shard for shard in shards if not _is_current(shard, digests)]


def _is_current(shard: Shard, digests: Mapping[str, str]) -> bool:
    expected = [
        (scene.name, digests.get(scene.name), tuple(target.key for target in targets))
        for scene, targets in shard.wanted
    ]
    return expected == [(mark.scene, mark.digest, mark.keys) for mark in shard.marks()]


def _cut(wanted: Wanted, settings: CropSettings) -> tuple[Mark, list[Crop | Skipped]]:
    scene, targets = wanted
    data = scene_bytes(scene)
    found = list(crop_scene(scene, data, targets, settings))
    used = any(isinstance(item, Crop) for item in found)
    return Mark(scene.name, _hex(data), tuple(t.key for t in targets), used), found


def _digest(scene: Scene) -> str:
    return _hex(scene_bytes(scene))


def _hex(data: bytes | None) -> str:
    return "" if data is None else hashlib.sha256(data).hexdigest()
