"""What ``recuse cascade search --json`` or ``recuse build`` wrote, read as who is in a system."""

from collections import Counter
from pathlib import Path

from recuse.cli.mixtures import parts_of
from recuse.errors import ConfigError
from recuse.integrations.sources import is_code
from recuse.records.run_folder import read_mapping

# Stages, selectors, core, threat and selection networks.
Who = tuple[tuple[str, ...], tuple[str, ...], str | None, str, tuple[str, ...]]


def searched(path: Path, stages: tuple[str, ...]) -> Who:
    """Stages with their selectors, core and threat of the most frequent system of a search.

    A mixture is a stage that always answers, without a core. Of a system's folder, its own, with
    the networks of its selectors.
    """
    if path.is_dir():
        return _built(path)
    found = read_mapping(path)
    if not found:
        raise ConfigError(f"{path} does not exist; recuse cascade search --json writes it")
    where = dict(word.split("=", 1) for word in stages if "=" in word)
    try:
        systems = Counter(
            (tuple(split["stages"]), split.get("mixture")) for split in found["splits"]
        )
        ((chosen, mixture), _), *_ = systems.most_common(1)
        parts = [str(stage).partition(": ") for stage in chosen]
        core, threat = str(found["core"]), f"{found['norm']}:{found['eps']}"
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is not what recuse cascade search --json writes") from error
    if mixture:
        return (_mixed(str(mixture), where),), ("always()",), None, threat, ()
    names = [name for name, _, _ in parts]
    given = [f"{name}={_place(name, where)}" for name in (*names, core)]
    selectors = tuple(s or "indicator" for _, _, s in parts)
    return tuple(given[:-1]), selectors, given[-1], threat, ()


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
            str(folder / entry["net"]["weights"]) for entry in found["stages"] if "net" in entry
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
    if found is None:
        raise ConfigError(f"the search chose {text!r}, which is no mixture that can be built")
    kind, *members, numbers = found
    first, second = (_place(member, where) for member in members)
    return f"{kind}={kind}({first}, {second}; {', '.join(map(str, numbers))})"


__all__ = ["searched"]
