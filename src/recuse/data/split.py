"""A part of a data set: images in [0, 1], labels, stable ids and label names, checked once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recuse.errors import ConfigError, DataError
from recuse.random import generator

_DIMENSIONS = (2, 4)


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set, held in memory; construction checks that it is what it says.

    Attributes:
        name: ``"cifar10/test"``; starts every error message about this part.
        images: float32, NCHW in [0, 1], or ``[batch, 2]`` for points of the plane.
        labels: int64 class indices, one per image.
        ids: Stable sample ids, unique; they key randomness and records.
        label_names: One name per class; its length is the number of classes.

    Raises:
        DataError: A shape, dtype, range, id or label that breaks the above.
    """

    name: str
    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    label_names: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_images(self.name, self.images)
        _check_labels(self.name, self.labels, self.label_names, count=len(self.images))
        if len(self.ids) != len(self.images) or len(set(self.ids)) != len(self.ids):
            raise DataError(
                f"{self.name}: {len(set(self.ids))} different sample ids for {len(self.images)} "
                "images; give every image an id of its own"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.label_names)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, for example ``(3, 32, 32)``."""
        return tuple(self.images.shape[1:])

    def take(self, indices: Sequence[int] | Tensor) -> "Split":
        """The rows at ``indices``, in that order, under the same ids."""
        index = torch.as_tensor(indices, dtype=torch.int64, device=self.images.device)
        ids = tuple(self.ids[i] for i in index.tolist())
        return self._rows(self.images[index], self.labels[index], ids)

    def head(self, n: int) -> "Split":
        """The first ``n`` rows (all if there are fewer).

        Raises:
            ConfigError: ``n`` below 1, which would leave nothing.
        """
        if n < 1:
            raise ConfigError(f"limit {n} leaves no image of {self.name}; give 1 or more")
        return self._rows(self.images[:n], self.labels[:n], self.ids[:n])

    def batches(self, size: int) -> Iterator["Split"]:
        """Consecutive parts of ``size`` rows; the last may be shorter. No copies."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield self._rows(self.images[rows], self.labels[rows], self.ids[rows])

    def renamed(self, name: str) -> "Split":
        """The same rows under another name; the ids stay."""
        return self._rows(self.images, self.labels, self.ids, name)

    def _rows(
        self, images: Tensor, labels: Tensor, ids: tuple[str, ...], name: str | None = None
    ) -> "Split":
        # Rows of a checked split need no second check, which would cost a device sync per batch.
        part = object.__new__(Split)
        for field, value in {
            "name": name or self.name,
            "images": images,
            "labels": labels,
            "ids": ids,
            "label_names": self.label_names,
        }.items():
            object.__setattr__(part, field, value)
        return part


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a data set; validation is cut from training rows, never from test."""

    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        names = {part.label_names for part in (self.train, self.validation, self.test)}
        shapes = {part.shape for part in (self.train, self.validation, self.test)}
        if len(names) > 1 or len(shapes) > 1:
            raise DataError(
                f"{self.train.name} and {self.test.name} do not belong together: their label names "
                f"or image shapes differ ({', '.join(map(str, sorted(shapes)))})"
            )


def stratified_parts(
    labels: Tensor, fractions: Sequence[float], *, seed: int
) -> tuple[list[int], ...]:
    """Cut rows into parts that hold each class in the same proportion.

    Every class is shuffled by ``seed`` and cut at the cumulated fractions, so that the cut of
    one class does not depend on any other.

    Args:
        labels: Class per row.
        fractions: Share of each part; they sum to 1.
        seed: Of the shuffles.

    Returns:
        Ascending row indices, one list per part.

    >>> stratified_parts(torch.tensor([0, 0, 0, 0, 1, 1]), (0.5, 0.5), seed=0)[0].__len__()
    3
    """
    if abs(sum(fractions) - 1) > 1e-9 or min(fractions) < 0:
        raise ValueError(f"fractions {tuple(fractions)} must be positive and sum to 1")
    ends = torch.tensor(fractions, dtype=torch.float64).cumsum(0)
    parts: list[list[int]] = [[] for _ in fractions]
    for label in sorted(set(labels.tolist())):
        rows = (labels == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator(seed, "split", label))]
        cuts = [0, *(ends * len(rows)).round().to(torch.int64).tolist()]
        for part, start, end in zip(parts, cuts[:-1], cuts[1:], strict=True):
            part.extend(rows[start:end].tolist())
    return tuple(sorted(part) for part in parts)


def stratified_order(labels: Tensor) -> list[int]:
    """Rows so that classes take turns: the first of each class, then the second, and so on."""
    turns: dict[int, int] = {}
    keys = []
    for row, label in enumerate(labels.tolist()):
        turns[label] = turns.get(label, -1) + 1
        keys.append((turns[label], label, row))
    return [row for _, _, row in sorted(keys)]


def hold_out(split: Split, fraction: float, *, seed: int, name: str) -> tuple[Split, Split]:
    """Cut a stratified validation part out of the training rows.

    Args:
        split: All training rows.
        fraction: Share to hold out, in (0, 1).
        seed: Of the cut.
        name: Name of the held-out part, for example ``"cifar10/validation"``.

    Returns:
        (training rows that remain, held-out rows); ids are those of ``split``.
    """
    kept, held = stratified_parts(split.labels, (1 - fraction, fraction), seed=seed)
    return split.take(kept), split.take(held).renamed(name)


def join(first: Split, second: Split, *, name: str) -> Split:
    """The rows of two parts in one, for example training rows and those held out of them.

    Raises:
        DataError: Their ids overlap, or they do not belong together.
    """
    Splits(first, second, first)
    images = torch.cat([first.images, second.images])
    labels = torch.cat([first.labels, second.labels])
    return Split(name, images, labels, first.ids + second.ids, first.label_names)


def _check_images(name: str, images: Tensor) -> None:
    if images.dtype != torch.float32 or images.dim() not in _DIMENSIONS:
        raise DataError(
            f"{name}: images must be float32 of shape [n, channels, height, width] (or [n, 2]), "
            f"got {str(images.dtype).removeprefix('torch.')} of shape {list(images.shape)}"
        )
    if not len(images):
        raise DataError(f"{name}: there is no image")
    low, high = (float(bound) for bound in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"{name}: pixel values must lie in [0, 1], got [{low:g}, {high:g}]; divide 8-bit "
            "images by 255 and leave normalisation to the model"
        )


def _check_labels(name: str, labels: Tensor, label_names: tuple[str, ...], *, count: int) -> None:
    if labels.dtype != torch.int64 or labels.shape != (count,):
        raise DataError(
            f"{name}: labels must be int64, one for each of {count} images, got "
            f"{str(labels.dtype).removeprefix('torch.')} of shape {list(labels.shape)}"
        )
    wrong = (labels < 0) | (labels >= len(label_names))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise DataError(
            f"{name}: label {int(labels[row])} of row {row} is outside 0..{len(label_names) - 1} "
            f"({len(label_names)} classes are named)"
        )
