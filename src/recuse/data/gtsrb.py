"""German traffic signs (GTSRB): 43 classes, whole images or their boxes, resized to a square."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from recuse.data.boxes import enlarged_box, place_of
from recuse.data.decode import Box, Decoding
from recuse.data.parquet import ImageTable, read_table
from recuse.data.roots import data_file
from recuse.data.split import Split, Splits
from recuse.errors import ConfigError, DataError
from recuse.random import generator

BOX, SIZE = ("x1", "y1", "x2", "y2"), ("width", "height")
_HOW = (
    "GTSRB as parquet: img at original size, label, box x1 y1 x2 y2 (inclusive) and track, "
    "one row per image of https://benchmark.ini.rub.de"
)


@dataclass(frozen=True)
class Gtsrb:
    """GTSRB from ``gtsrb_train.parquet`` and ``gtsrb_test.parquet`` of the data folder.

    Images of one track show the same sign seconds apart, so validation holds out whole
    (label, track) groups: a tenth of each class's tracks, at least one where there are two.

    Attributes:
        size: Side to resize to (bilinear, with antialiasing).
        crop: Crop to the sign's box first. The published networks for 32x32 signs see whole
            images, hence the default.
        seed: Of the choice of tracks, and of how the slack is split.
        slack: How much of the box's width and height to add in all, split at random between the
            two sides (the images hold about a fifth around the box); needs ``crop``.
    """

    size: int = 32
    crop: bool = False
    seed: int = 0
    slack: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.slack < math.inf) or (self.slack and not self.crop):
            raise ConfigError(
                f"slack is {self.slack} and crop is {self.crop}; boxes that are cropped to grow by "
                "a finite share of 0 or more"
            )

    def load(self, data_root: Path | None = None) -> Splits:
        """The three parts."""
        table = read_table(data_file(data_root, "gtsrb_train.parquet", how=_HOW))
        rows = self._split(table, "gtsrb/train")
        kept, held = hold_out_tracks(rows.labels.tolist(), _tracks(table), seed=self.seed)
        validation = rows.take(held).renamed("gtsrb/validation")
        return Splits(rows.take(kept), validation, self.load_test(data_root))

    def load_test(self, data_root: Path | None = None) -> Split:
        """The test part alone."""
        table = read_table(data_file(data_root, "gtsrb_test.parquet", how=_HOW))
        return self._split(table, "gtsrb/test")

    def _split(self, table: ImageTable, name: str) -> Split:
        boxes = None
        if self.crop:
            _require_boxes(table)
            boxes = sign_boxes(table, slack=self.slack, seed=self.seed)
        return table.split(name, Decoding(size=self.size), prefix=name, boxes=boxes)


def sign_boxes(table: ImageTable, *, slack: float = 0.0, seed: int = 0) -> list[Box]:
    """The signs' boxes, right and lower edge exclusive, enlarged within their images.

    Args:
        table: One row per image, with columns of the box and of the image's size.
        slack: How much of the box's width and height to add in all.
        seed: Of how the slack of each image is split between its two sides.

    Raises:
        DataError: The table has no box columns, or a row without numbers.
    """
    boxes: list[Box] = []
    for row, (x1, y1, x2, y2, *size) in enumerate(_numbers(table, BOX + SIZE * bool(slack))):
        box = (x1, y1, x2 + 1, y2 + 1)
        if slack:
            alpha = place_of(f"{table.path.stem}/{row:05d}", seed)
            box = enlarged_box(box, alpha, slack=slack, size=(size[0], size[1]))
        boxes.append(box)
    return boxes


def _require_boxes(table: ImageTable) -> None:
    """Refuse a row whose box holds no pixel; ``recuse data crop`` leaves such rows out."""
    for row, (x1, y1, x2, y2) in enumerate(_numbers(table, BOX)):
        if not (0 <= x1 <= x2 and 0 <= y1 <= y2):
            raise DataError(
                f"{table.path}: row {row} holds no box of pixels (x1 y1 x2 y2 = {x1} {y1} {x2} "
                f"{y2}); repair it, or take whole images: gtsrb(crop=false)"
            )


def hold_out_tracks(
    labels: list[int], tracks: list[int], *, seed: int, fraction: float = 0.1
) -> tuple[list[int], list[int]]:
    """Cut rows so that no (label, track) group lies on both sides.

    Args:
        labels: Class per row.
        tracks: Track number per row; numbers repeat between classes.
        seed: Of the choice of tracks.
        fraction: Share of each class's tracks to hold out, rounded, at least one of two.

    Returns:
        (rows kept, rows held out), both ascending.
    """
    held: set[tuple[int, int]] = set()
    for label in sorted(set(labels)):
        own = sorted({t for k, t in zip(labels, tracks, strict=True) if k == label})
        count = max(round(fraction * len(own)), 1) if len(own) > 1 else 0
        order = torch.randperm(len(own), generator=generator(seed, "tracks", label)).tolist()
        held |= {(label, own[i]) for i in order[:count]}
    groups = list(zip(labels, tracks, strict=True))
    inside = [row for row, group in enumerate(groups) if group in held]
    return [row for row, group in enumerate(groups) if group not in held], inside


def _tracks(table: ImageTable) -> list[int]:
    return [track for (track,) in _numbers(table, ("track",))]


def _numbers(table: ImageTable, names: tuple[str, ...]) -> list[tuple[int, ...]]:
    """The whole numbers of some columns, row by row."""
    if missing := [name for name in names if name not in table.frame.columns]:
        raise DataError(
            f"{table.path}: no column {', '.join(missing)}; tracks are needed to cut out "
            "validation images, boxes to cut out signs (gtsrb(crop=false) takes whole images)"
        )
    rows = table.frame.select(names).rows()
    for row, values in enumerate(rows):
        if not all(isinstance(v, int | float) and v == v // 1 for v in values):
            raise DataError(
                f"{table.path}: row {row} holds no whole numbers in {', '.join(names)}, but "
                f"{', '.join(map(repr, values))}; repair it"
            )
    return [tuple(map(int, values)) for values in rows]
