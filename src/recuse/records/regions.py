"""Decision maps of classifiers of the plane, as a run keeps them: ``regions.npz``."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recuse.errors import RecordError

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Regions:
    """Decision maps over the unit square and the points they were judged on.

    Attributes:
        names: One a model.
        classes: Predicted class, [models, rows, columns]; rows follow the second coordinate,
            ascending.
        points: Training points, [n, 2].
        labels: Their classes, [n].
        label_names: One a class.
        accurate: Right at the point, [models, n].
        robust: Same answer within eps, [models, n].
        eps: Radius of the verdicts.
    """

    names: tuple[str, ...]
    classes: Array
    points: Array
    labels: Array
    label_names: tuple[str, ...]
    accurate: Array
    robust: Array
    eps: float

    def __post_init__(self) -> None:
        models, n = len(self.names), len(self.points)
        shapes = (self.classes.ndim, self.classes.shape[0], self.points.shape, self.labels.shape)
        if shapes != (3, models, (n, 2), (n,)) or not (
            self.accurate.shape == self.robust.shape == (models, n)
        ):
            raise RecordError(
                f"decision regions of {models} models and {n} points have arrays that do not fit"
            )


def read_regions(path: Path) -> Regions:
    """Read ``regions.npz``.

    Raises:
        RecordError: Damaged, or arrays missing.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return Regions(
            names=tuple(map(str, arrays["names"])),
            classes=arrays["classes"],
            points=arrays["points"],
            labels=arrays["labels"],
            label_names=tuple(map(str, arrays["label_names"])),
            accurate=arrays["accurate"].astype(bool),
            robust=arrays["robust"].astype(bool),
            eps=float(arrays["eps"]),
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise RecordError(
            f"{path} cannot be read as decision regions ({error}); delete it and rerun"
        ) from error


__all__ = ["Regions", "read_regions"]
