"""Names of classes from a file: what the folders of a data set, or its numbers, mean."""

import json
from pathlib import Path

from recuse.data.encoded import ClassNames
from recuse.errors import DataError


def read_class_file(path: Path) -> ClassNames:
    """Classes as the data call them, each with its name.

    Args:
        path: JSON with an object ``{"n01440764": "tench"}`` or a list, or text with a class a
            line, ``n01440764 = tench`` or the name alone. Names alone are of the classes 0, 1, ...

    Raises:
        DataError: No such file, or one that holds anything else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else _lines(text)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} holds no names of classes: {error}") from error
    listed = enumerate(found) if isinstance(found, list) else ()
    pairs = found.items() if isinstance(found, dict) else listed
    classes = tuple((str(own), name) for own, name in pairs)
    if not classes or not all(isinstance(name, str) and name.strip() for _, name in classes):
        raise DataError(
            f"{path} holds no names of classes; give a JSON object or list of names, or lines "
            "'class = name'"
        )
    return classes


def _lines(text: str) -> dict[str, str] | list[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    cut = [line.partition("=") for line in lines]
    if any(equals for _, equals, _ in cut):
        if not all(equals for _, equals, _ in cut):
            raise ValueError("some lines have a = and some have none")
        return {own.strip(): name.strip() for own, _, name in cut}
    return lines


__all__ = ["read_class_file"]
