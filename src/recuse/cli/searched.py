"""What ``recuse cascade search --json`` or ``recuse build`` wrote, read as who is in a system."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recuse.cli.mixtures import parts_of
from recuse.errors import ConfigError
from recuse.integrations.sources import is_code
from recuse.records.run_folder import read_mapping

ALWAYS = "always()"
# Stages, selectors, core, threat and selection networks.
Who = tuple[tuple[str, ...], tuple[str, ...], str | None, str, tuple[str, ...]]


def searched(path: Path, stages: tuple[str, ...]) -> Who:
    """Stages with their selectors, core and threat of the most frequent system of a search.

    Where one mechanism alone was better than all in one search, it is of the systems of that one.

    A mixture is a stage that always answers, without a core; so is a network alone, where that
    keeps to the loss and is more robust than every system. Of a system's folder, its own, with the
    networks of its selectors.

    Raises:
        ConfigError: No such file, one of something else, or the core alone.
    """
    if path.is_dir():
        return _built(path)
    found = read_mapping(path)
    if not found:
        raise ConfigError(f"{path} does not exist; recuse cascade search --json writes it")
    where = dict(word.split("=", 1) for word in stages if "=" in word)
    try:
        splits = found.get("taken", found)["splits"]
        ((chosen, mixture), _), *_ = Counter(map(_best, splits)).most_common(1)
        core, threat = str(found["core"]), f"{found['norm']}:{found['eps']}"
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is not what recuse cascade search --json writes") from error
    if not (chosen or mixture):
        raise ConfigError(
            f"{path}: most often nothing beat the core alone, so that there is no system to take; "
            "allow more natural loss, or search other mechanisms"
        )
    members = str(mixture).split(" → ") if mixture else [*map(str, chosen), core]
    *before, last = [_member(member, where) for member in members]
    if last[1] or not before:  # nobody answers what it leaves
        return _columns((*before, last), None, threat)
    return _columns(before, last[0], threat)


def _best(split: dict[str, Any]) -> tuple[tuple[str, ...], str | None]:
    """The stages before the core, or else what answers always: a mixture, or a network alone."""
    if split.get("better_alone"):
        return (), str(split["alone"])
    return tuple(split["stages"]), split.get("mixture")


def _member(text: str, where: dict[str, str]) -> tuple[str, str]:
    """A member as NAME=MODEL, and its selector; of a mixture, that it always answers."""
    name, _, selector = text.partition(": ")
    if parts_of(name):
        return _mixed(name, where), selector or ALWAYS
    return f"{name}={_place(name, where)}", selector


def _columns(stages: Sequence[tuple[str, str]], core: str | None, threat: str) -> Who:
    """Stages behind their selectors: the indicator, where there is a core and none is named."""
    usual = ALWAYS if core is None else "indicator"
    names, selectors = zip(*stages, strict=True)
    return names, tuple(selector or usual for selector in selectors), core, threat, ()


def _built(folder: Path) -> Who:
    """A system by its folder: its networks lie there."""
    from recuse.systems.folder import SYSTEM

    found = read_mapping(folder / SYSTEM)
    try:
        *stages, core = (
            entry and f"{entry['name']}={_place(str(folder / entry['weights']), {})}"
            for entry in (*found["stages"], found["core"])
        )
        selectors = tuple(str(entry["selector"]) for entry in found["stages"])
        nets = tuple(
            _place(str(folder / entry["net"]["weights"]), {})
            for entry in found["stages"]
            if "net" in entry
        )
        return tuple(stages), selectors, core, str(found["budget"]), nets
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder} is no system; recuse build --out {folder} makes one"
        ) from error


def _place(name: str, where: dict[str, str]) -> str:
    """What a model is found by; no file may say that code is run."""
    if name not in where and is_code(name):
        raise ConfigError(f"the search names {name!r}, which is code; give NAME={name} by --stage")
    return where.get(name, name)


def _mixed(text: str, where: dict[str, str]) -> str:
    """A mixture as a search names it, with its models as they are to be found."""
    found = parts_of(text)
    assert found is not None
    kind, *members, numbers = found
    first, second = (_place(member, where) for member in members)
    return f"{kind}={kind}({first}, {second}; {', '.join(map(str, numbers))})"


__all__ = ["searched"]
