"""Reference pages from what the program says of itself: its commands, its values, its rooms.

A page holds a block ``{commands}``, ``{values}`` or ``{room}`` with the name of a module; before
Sphinx reads the page, the block becomes Markdown. A public name that no page describes is a
warning, and so an error of ``make docs``.
"""

import ast
import importlib
import importlib.util
import inspect
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.logging import getLogger

BLOCK = re.compile(r"^```\{(commands|values|room)\} ?(\S*)\n```$", re.MULTILINE)


def commands() -> str:
    """Every command with its arguments, as its ``--help`` says them."""
    from recuse.cli.main import VERBS, deferred

    parts = []
    for words, verb in _flat(VERBS):
        takes, options = _arguments(deferred(verb))
        title = " ".join(["recuse", *words, *takes])
        text = inspect.cleandoc(verb.__doc__ or "").partition("\nArgs:")[0].strip()
        parts.append(f"## `{title}`\n\n{_markdown(text)}\n\n" + "\n".join(options))
    return "\n\n".join(parts)


def _flat(table: dict[str, Any], *before: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, entry in table.items():
        if isinstance(entry, dict):
            yield from _flat(entry, *before, name)
        else:
            yield (*before, name), entry


def _arguments(verb: Any) -> tuple[list[str], list[str]]:
    """What a command takes in order, and the items of a definition list of all it takes."""
    from tyro.extras import get_parser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        actions = get_parser(verb)._actions
    takes, items = [], []
    for action in actions:
        if action.dest == "help":
            continue
        told = re.sub(r"\s+", " ", str(action.help)).replace("%%", "%").strip()
        names = " / ".join(f"`{name}`" for name in action.option_strings)
        metavar = f"`{action.metavar}`" if action.metavar else ""
        if not action.option_strings:
            takes.append(str(action.metavar))
        items.append(f"{' '.join(filter(None, (names, metavar)))}\n: {_markdown(told)}\n")
    return takes, items


def _markdown(text: str) -> str:
    return re.sub(r"([<*_|\[\]])", r"\\\1", text.replace("``", "`"))


def values() -> str:
    """Every family of values: what can be typed, its fields with defaults, its promise."""
    from recuse.recipes.families import VOCABULARY

    parts = []
    for family in VOCABULARY.families:
        parts.append(f"## {family.name}\n")
        for name, kind in family.kinds.items():
            promise = inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]
            parts.append(f"`{VOCABULARY.signature(name, kind)}`\n: {_markdown(promise)}\n")
    return "\n".join(parts)


def room(name: str) -> str:
    """The public names of a room, or, where it lists none, of each of its files."""
    parts = []
    for module in modules_of(name):
        lines = [f".. automodule:: {module}", "   :members:"]
        loaded = importlib.import_module(module)
        told = {name for _, name in ModuleAnalyzer.for_module(module).find_attr_docs()}
        names = sorted(public_names(module) - told)
        for data in (name for name in names if _is_data(getattr(loaded, name))):
            value = getattr(loaded, data)
            shown = ", ".join(map(str, value)) if isinstance(value, dict) else repr(value)
            # Not autodata, which gives a table the description of all dictionaries.
            lines += ["", f".. py:data:: {data}", f"   :module: {module}", "", f"   ``{shown}``"]
        parts.append("\n".join(["```{eval-rst}", *lines, "```"]))
    return "\n\n".join(parts)


def public_names(module: str) -> set[str]:
    """The names of a module that a user may rely on."""
    loaded = importlib.import_module(module)
    here = {n for n, v in vars(loaded).items() if getattr(v, "__module__", None) == module}
    return {*getattr(loaded, "__all__", {n for n in here if not n.startswith("_")})}


def _is_data(value: Any) -> bool:
    # Type aliases are described by the value they stand for, too.
    return not (inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value))


def modules_of(name: str) -> tuple[str, ...]:
    """The modules that hold a room's public names."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"there is no module {name}"
    if spec.submodule_search_locations is None or lists_its_names(name):
        return (name,)
    folder = Path(spec.submodule_search_locations[0])
    inside = {f"{name}.{p.stem}" for p in folder.glob("*.py") if p.stem != "__init__"}
    rooms = {f"{name}.{p.parent.name}" for p in folder.glob("*/__init__.py")}
    return (name, *(module for inner in sorted(inside | rooms) for module in modules_of(inner)))


def lists_its_names(name: str) -> bool:
    """Whether a module has ``__all__``; read, not imported, for some need what is not installed."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    tree = ast.parse(Path(str(spec.origin)).read_text())
    targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
    return any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets)


def expand(text: str) -> str:
    """A page with its blocks replaced by what they stand for."""
    makers = {"commands": commands, "values": values, "room": room}
    return BLOCK.sub(lambda block: makers[block[1]](*filter(None, [block[2]])), text)


def leave_out(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> Any:
    """What scikit-learn adds to a class is not ours to describe."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def tell_what_is_missing(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of public names of the rooms on the pages that no page describes."""
    described = env.domaindata["py"]["objects"]
    for page in env.found_docs:
        for block in BLOCK.finditer(env.doc2path(page).read_text()):
            for module in modules_of(block[2]) if block[2] else ():
                for name in sorted(public_names(module)):
                    if f"{module}.{name}" not in described:
                        getLogger(__name__).warning("%s.%s is not described", module, name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""

    def read(app: Sphinx, page: str, source: list[str]) -> None:
        source[0] = expand(source[0])

    app.connect("source-read", read)
    app.connect("autodoc-skip-member", leave_out)
    app.connect("env-check-consistency", tell_what_is_missing)
    return {"parallel_read_safe": True}
