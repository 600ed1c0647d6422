"""What lies in a run folder is named in one place."""

import ast
from pathlib import Path

import recuse
from recuse.records import layout

SOURCE = Path(recuse.__file__).parent
NAMES = {value for name, value in vars(layout).items() if name.isupper()}
# Words of these names that mean something else: a table's column, a card's field, a function.
ELSEWHERE = {"records", "training", "gallery", "checkpoints"}


def test_no_other_module_spells_a_file_name_of_a_run_folder() -> None:
    spelt = [
        f"{path.relative_to(SOURCE)}:{node.lineno} {node.value!r}"
        for path in SOURCE.rglob("*.py")
        if path.name != "layout.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value in NAMES - ELSEWHERE
    ]
    assert not spelt
