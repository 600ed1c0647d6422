"""Foreign networks of a models folder, as ``manifest.json`` beside their files describes them."""

import json
import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any

from recuse.errors import ConfigError, DataError, RecuseError
from recuse.models.architectures import Architecture, architecture, parse_architecture
from recuse.models.cards import Card, card_for
from recuse.values import Call, parse_value

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


def manifest_entries(manifest: Path) -> dict[str, Any]:
    """What a manifest says of each network, by name; one without a name is called by its place.

    Raises:
        DataError: The file is no list.
    """
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{manifest} is damaged: {type(error).__name__}: {error}") from error
    if not isinstance(entries, list):
        raise DataError(f"{manifest} is damaged: it holds no list of networks")
    return {
        str(entry.get("name", place) if isinstance(entry, Mapping) else place): entry
        for place, entry in ((f"{manifest.name}[{i}]", e) for i, e in enumerate(entries))
    }


def foreign_card(entry: Any, manifest: Path) -> tuple[Path, Card]:
    """The weight file of one manifest entry, and its card.

    Raises:
        DataError: A field is missing or makes no sense.
    """
    name = entry.get("name") if isinstance(entry, Mapping) else entry
    try:
        config = foreign_architecture(str(entry["arch"]))
        trained = _TRAINED_AT.search(str(entry.get("training", "")))
        return manifest.parent / str(entry["file"]), card_for(
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
    except KeyError as error:
        raise DataError(f"{manifest}: entry {name!r} has no {error}") from error
    except (TypeError, ValueError, AttributeError, RecuseError) as error:
        raise DataError(f"{manifest}: entry {name!r} cannot be read: {error}") from error


def foreign_architecture(text: str) -> Architecture:
    """The config of a manifest's ``arch``; nothing is evaluated.

    The manifest writes the small net by its padding and flattened length: ``flat`` numbers are
    32 channels of size / 4 by size / 4.

    Raises:
        ConfigError: An unknown architecture or setting.

    >>> foreign_architecture("small(pad=1,flat=1568,cin=1)")
    SmallConvNet(channels=1, size=28, classes=10, dropout=0.0)
    """
    written = parse_value(text.lower())
    if not isinstance(written, Call) or written.name != "small":
        return parse_architecture(text)
    settings = {key: getattr(value, "value", None) for key, value in written.settings}
    if "flat" not in settings:
        return parse_architecture(text)
    flat, pad, channels = (settings.pop(*key) for key in (("flat",), ("pad", 1), ("cin", 3)))
    side = isqrt(flat // 32) if isinstance(flat, int) and flat > 0 else 0
    if pad != 1 or 32 * side**2 != flat:
        raise ConfigError(f"architecture {text!r}: only pad=1 and flat=32·side² are known")
    return architecture("small", **settings, channels=channels, size=4 * side)


def _accuracies(entry: Mapping[str, Any]) -> dict[str, float]:
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
