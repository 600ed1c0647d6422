"""Where data live: the folder given by ``--data-root`` or the environment variable."""

import os
from pathlib import Path

from recuse.errors import DataError

VARIABLE = "RECUSE_DATA"


def find_data_root(option: Path | None = None) -> Path | None:
    """The data folder: the option if given, else ``RECUSE_DATA``, else nothing.

    Args:
        option: What the caller passed as ``--data-root``.

    Returns:
        The folder, or None where neither is set (embedded data sets need none).

    Raises:
        DataError: The option or the variable names a folder that does not exist.
    """
    named = option if option is not None else os.environ.get(VARIABLE)
    if not named:
        return None
    root = Path(named).expanduser()
    if not root.is_dir():
        source = "--data-root" if option is not None else VARIABLE
        raise DataError(f"the data folder {root} given by {source} does not exist")
    return root


def data_file(root: Path | None, name: str, *, how: str) -> Path:
    """Path of a file or folder below the data root.

    Args:
        root: The data folder; None takes ``RECUSE_DATA``.
        name: File name below it.
        how: What the file is and where it comes from, completing "expected ...".

    Raises:
        DataError: No data folder, or no such file in it; says how to get it.
    """
    root = root or find_data_root()
    if root is None:
        raise DataError(
            f"no data folder: set {VARIABLE} or pass --data-root; expected {name} in it, {how}"
        )
    path = root / name
    if not path.exists():
        raise DataError(f"{path} is missing: expected {how}")
    return path


def located(path: Path, root: Path | None) -> Path:
    """The path itself where it exists, else the one below the data folder if that does.

    Args:
        path: As the caller wrote it.
        root: The data folder; None takes ``RECUSE_DATA``.
    """
    root = root or find_data_root()
    return path if path.exists() or root is None or not (root / path).exists() else root / path
