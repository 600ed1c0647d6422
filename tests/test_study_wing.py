"""The study wing must work where torch is not installed."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
BLOCK = "import sys; sys.modules['torch'] = None; "


@pytest.mark.parametrize("package", ["records", "analysis", "report"])
def test_imports_without_torch(package: str) -> None:
    code = BLOCK + (
        f"import importlib, pkgutil, recuse.{package} as p; "
        "found = pkgutil.walk_packages(p.__path__, p.__name__ + '.'); "
        "[importlib.import_module(m.name) for m in found]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["show", "results/runs/digits"],
        ["records", "hash", "results/runs/digits"],
        ["compose", "results/runs/digits", "--eps", "0.05"],
        ["report", "results/runs/digits", "--out", "{tmp}/report.html"],
    ],
    ids=lambda words: words[0],
)
def test_these_commands_never_load_torch(words: list[str], tmp_path: Path) -> None:
    asked = [word.format(tmp=tmp_path) for word in words]
    heavy = ("torch", "sklearn", "scipy", "polars") if words == ["--help"] else ("torch",)
    code = (
        f"import sys; from recuse.cli.main import main; heavy = {heavy}\n"
        f"try: main({asked})\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
