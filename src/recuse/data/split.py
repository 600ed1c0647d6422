"""A part of a data set: images in [0, 1], labels, stable ids and label names, checked once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recuse.class_names import class_order
from recuse.errors import ConfigError, DataError
from recuse.images import check_images, dtype_of
from recuse.random import generator


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set, held in memory; construction checks that it is what it says.

    Attributes:
        name: ``"cifar10/test"``; starts every error message about this part.
        images: NCHW in [0, 1], or ``[batch, features]`` for points; any floating-point numbers are
            taken and kept in float32.
        labels: Class indices, one per image; any integers are taken and kept in int64.
        ids: Stable sample ids, unique; they key randomness and records.
        label_names: One name per class; its length is the number of classes.
        remarks: What a person should know of it, a sentence each.
        skipped: What could not be read and was left out, a sentence each.

    Raises:
        DataError: A shape, dtype, range, id or label that breaks the above.
    """

    name: str
    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    label_names: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", _checked(self.name, self.images))
        object.__setattr__(self, "ids", tuple(str(i) for i in self.ids))
        object.__setattr__(self, "label_names", tuple(str(name) for name in self.label_names))
        labels = _checked_labels(self.name, self.labels, self.label_names, count=len(self.images))
        object.__setattr__(self, "labels", labels)
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

    def relabelled(self, label_names: Sequence[str]) -> "Split":
        """The same rows with their labels counted in another order of the classes.

        Args:
            label_names: The new order; may hold classes that no row is of.

        Raises:
            DataError: A class of these rows is not among them.
        """
        if tuple(label_names) == self.label_names:
            return self
        order = class_order(label_names, self.label_names, model="the other part", data=self.name)
        moved = torch.tensor(order or range(len(label_names)))[self.labels]
        return replace(self, labels=moved, label_names=tuple(label_names))

    def renamed(self, name: str) -> "Split":
        """The same rows under another name; the ids stay."""
        return self._rows(self.images, self.labels, self.ids, name)

    def __getstate__(self) -> dict[str, object]:
        """Its own rows: what is cut from a larger part would carry all of that along."""
        return {**self.__dict__, "images": self.images.clone(), "labels": self.labels.clone()}

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
            "remarks": self.remarks,
            "skipped": self.skipped,
        }.items():
            object.__setattr__(part, field, value)
        return part


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a data set; validation is cut from training rows, never from test.

    Attributes:
        train: To train on.
        validation: To choose with.
        test: To judge.
        note: How the parts were made, in one sentence; empty where the data come in parts.
    """

    train: Split
    validation: Split
    test: Split
    note: str = ""

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
    remarks = tuple(dict.fromkeys(first.remarks + second.remarks))
    skipped = tuple(dict.fromkeys(first.skipped + second.skipped))
    ids = first.ids + second.ids
    return Split(name, images, labels, ids, first.label_names, remarks, skipped)


def _checked(name: str, images: Tensor) -> Tensor:
    """The images in float32, the precision in which networks are judged."""
    check_images(images, name=f"{name}: the batch of images")
    if not len(images):
        raise DataError(f"{name}: there is no image")
    return images.detach().float()


def _checked_labels(
    name: str, labels: Tensor, label_names: tuple[str, ...], *, count: int
) -> Tensor:
    """The labels in int64, each the place of a name."""
    if not isinstance(labels, Tensor):
        raise DataError(f"{name}: labels are a {type(labels).__name__}, not a tensor of integers")
    kind = dtype_of(labels)
    if (
        labels.shape != (count,)
        or kind == "bool"
        or kind.startswith(("float", "bfloat", "complex"))
    ):
        raise DataError(
            f"{name}: labels must be integers, one for each of {count} images, got {kind} of "
            f"shape {list(labels.shape)}"
        )
    classes = len(label_names)
    if classes < 2 or len(set(label_names)) < classes:
        raise DataError(
            f"{name}: a classifier tells two classes or more apart, each of a name of its own, "
            f"but the classes are {', '.join(label_names) or 'none'}"
        )
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise DataError(
            f"{name}: label {int(labels[row])} of row {row} is outside 0..{classes - 1} "
            f"({classes} classes are named)"
        )
    return labels.to(torch.int64)
