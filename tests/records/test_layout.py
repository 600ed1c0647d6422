"""What lies in a run folder is named in one place."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import recuse
from recuse.records import layout

SOURCE = Path(recuse.__file__).parent
NAMES = {value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)}
# Words of these names mean something else, too, unless a path is made of them.
WORDS = {name for name in NAMES if "." not in name}
LOOKUPS = {"glob", "rglob", "joinpath", "with_name", "Path"}


def pieces(node: ast.expr) -> list[str]:
    """The literal parts of a string or f-string, cut at slashes."""
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    texts = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
    return [piece for text in texts for piece in text.split("/")]


def path_parts(tree: ast.AST) -> Iterator[ast.expr]:
    """Strings that a path is made of: ``folder / "name"``, ``folder.glob("name")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            yield from (node.left, node.right)
        elif isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in LOOKUPS:
                yield from node.args


def spelt(code: str) -> list[str]:
    """File names of a run folder that code spells itself."""
    tree = ast.parse(code)
    strings = [n for n in ast.walk(tree) if isinstance(n, ast.Constant | ast.JoinedStr)]
    joined = {piece for node in path_parts(tree) for piece in pieces(node)}
    anywhere = {piece for node in strings for piece in pieces(node)}
    names = (joined & NAMES) | (anywhere & (NAMES - WORDS))
    logs = {p for p in joined if p.endswith(".jsonl") or p.startswith("separation-")}
    forms = logs | {p for p in anywhere if p.startswith("shard-")}
    return sorted(names | forms)


@pytest.mark.parametrize(
    "code",
    [
        'run / "records"',
        'run.glob("records/*/x")',
        'Path("runs/x/checkpoints")',
        'name = "config.json"',
        'f"{run}/report.html"',
        'folder.glob("*/meta.json")',
        'f"shard-{number:05d}.parquet"',
        'folder / f"{model}.jsonl"',
    ],
)
def test_a_name_is_found_however_it_is_spelt(code: str) -> None:
    assert spelt(code)
    assert not spelt('fields["records"]; part = "training"; text = "see config.json of a run"')


def test_no_other_module_spells_a_file_name_of_a_run_folder() -> None:
    found = {
        str(path.relative_to(SOURCE)): names
        for path in SOURCE.rglob("*.py")
        if path != Path(layout.__file__) and (names := spelt(path.read_text("utf-8")))
    }
    assert not found
