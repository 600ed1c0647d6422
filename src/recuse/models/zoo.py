"""Networks by name: checkpoints anywhere, and the models folder beside the data."""

import json
import os
import re
from pathlib import Path
from typing import Any

from torch import nn

from recuse.errors import ConfigError, DataError
from recuse.models.architectures import Architecture, architecture, parse_call
from recuse.models.cards import Card, card_for
from recuse.models.checkpoint import SUFFIX, load_checkpoint, load_foreign, read_card

DATA_VARIABLE = "RECUSE_DATA"
MANIFEST = "manifest.json"
CIFAR10_LABELS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_TRAINED_AT = re.compile(r"(?:(linf|l2)\s+|eps\s+)(\d+/\d+|\d*\.\d+)", re.IGNORECASE)


def load_model(ref: str, *, data_root: Path | None = None) -> tuple[nn.Module, Card]:
    """Load a network by checkpoint path or by name.

    Args:
        ref: Path of a ``.safetensors`` checkpoint, or a name in the models folder.
        data_root: The data folder; the models lie in ``models`` beside or inside it. By default
            the environment variable ``RECUSE_DATA``.

    Returns:
        The network (images in [0, 1] to logits) in eval mode on the CPU, and its card.

    Raises:
        ConfigError: No such model; the sentence lists those there are.
        DataError: No models folder, or a damaged file.
    """
    if ref.endswith(SUFFIX):
        return load_checkpoint(Path(ref))
    folder, entry = _find(ref, data_root)
    if isinstance(entry, Path):
        return load_checkpoint(entry)
    return load_foreign(folder / str(entry["file"]), foreign_card(entry, folder / MANIFEST))


def show_model(ref: str, *, data_root: Path | None = None) -> Card:
    """The card of a network, named as in :func:`load_model`; weights are not read where possible.

    Raises:
        ConfigError: No such model.
        DataError: No models folder, or a damaged file.
    """
    if ref.endswith(SUFFIX):
        return read_card(Path(ref))
    folder, entry = _find(ref, data_root)
    return read_card(entry) if isinstance(entry, Path) else foreign_card(entry, folder / MANIFEST)


def model_names(*, data_root: Path | None = None) -> tuple[str, ...]:
    """Names of the networks in the models folder, sorted.

    Raises:
        DataError: No models folder, or a damaged manifest.
    """
    return tuple(sorted(_entries(models_folder(data_root))))


def models_folder(data_root: Path | None = None) -> Path:
    """The folder of networks: ``models`` inside the data folder or beside it.

    Raises:
        DataError: There is none; the sentence says how to name it.
    """
    root = data_root or Path(os.environ.get(DATA_VARIABLE, ""))
    if data_root is None and not os.environ.get(DATA_VARIABLE):
        raise DataError(
            f"no models folder is known: set {DATA_VARIABLE} or give --data-root, a data folder "
            "with a folder 'models' in it or beside it; or name a .safetensors checkpoint"
        )
    for folder in (root / "models", root.absolute().parent / "models", root):
        if (folder / MANIFEST).is_file() or (folder.name == "models" and folder.is_dir()):
            return folder
    raise DataError(
        f"no folder 'models' in {root} or beside it; put networks there (.safetensors, or .pt "
        f"with a {MANIFEST}), or set {DATA_VARIABLE} or --data-root to another data folder"
    )


def _find(ref: str, data_root: Path | None) -> tuple[Path, dict[str, Any] | Path]:
    folder = models_folder(data_root)
    entries = _entries(folder)
    if ref not in entries:
        known = ", ".join(sorted(entries)) or "none"
        raise ConfigError(
            f"model {ref!r} is neither a {SUFFIX} checkpoint nor in {folder}; there are: {known}"
        )
    return folder, entries[ref]


def _entries(folder: Path) -> dict[str, dict[str, Any] | Path]:
    entries: dict[str, dict[str, Any] | Path] = {p.stem: p for p in folder.glob(f"*{SUFFIX}")}
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return entries
    try:
        for entry in json.loads(manifest.read_text()):
            entries[str(entry["name"])] = entry
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest} is damaged: {type(error).__name__}: {error}") from error
    return entries


def foreign_card(entry: dict[str, Any], manifest: Path) -> Card:
    """The card of one manifest entry.

    Raises:
        DataError: A field is missing or makes no sense.
    """
    try:
        config = foreign_architecture(str(entry["arch"]))
        trained = _TRAINED_AT.search(str(entry.get("training", "")))
        return card_for(
            str(entry["name"]),
            config,
            mean=tuple(float(v) for v in entry["mean"]),
            std=tuple(float(v) for v in entry["std"]),
            origin=str(entry.get("source", "")),
            training=str(entry.get("training", "")),
            norm=(trained[1] or "").lower() if trained else "",
            eps=trained[2] if trained else "",
            accuracy=_accuracies(entry),
            label_names=_label_names(str(entry.get("classes", "")), config.classes),
            licence=str(entry.get("licence", "")),
            sha256=str(entry.get("sha256", "")),
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise DataError(
            f"{manifest}: entry {entry.get('name')!r} cannot be read: {error}"
        ) from error


def foreign_architecture(text: str) -> Architecture:
    """The config of a manifest's ``arch``; nothing is evaluated.

    The manifest writes the small net by its padding and flattened length: ``flat`` numbers are
    32 channels of size / 4 by size / 4.

    Raises:
        ConfigError: An unknown architecture or setting.

    >>> foreign_architecture("small(pad=1,flat=1568,cin=1)")
    SmallConvNet(channels=1, size=28, classes=10, dropout=0.0)
    """
    name, settings = parse_call(text)
    if name == "small" and "flat" in settings:
        side = (settings.pop("flat") / 32) ** 0.5
        if settings.pop("pad", 1) != 1 or side != int(side):
            raise ConfigError(f"architecture {text!r}: only pad=1 and flat=32·side² are known")
        settings["size"] = 4 * int(side)
        settings["channels"] = settings.pop("cin", 3)
    return architecture(name, **settings)


def _accuracies(entry: dict[str, Any]) -> dict[str, float]:
    """Measured rates, flat: ``nat_acc_500`` and, per radius, ``pgd20_200@2/255``."""
    flat: dict[str, float] = {}
    for key, value in entry.items():
        if isinstance(value, dict):
            flat |= {f"{key}@{radius}": float(rate) for radius, rate in value.items()}
        elif key.startswith("nat_acc_"):
            flat[key] = float(value)
    return flat


def _label_names(classes: str, count: int) -> tuple[str, ...]:
    if "CIFAR-10 order" in classes and count == len(CIFAR10_LABELS):
        return CIFAR10_LABELS
    return tuple(str(i) for i in range(count))
