"""The study wing must work where torch is not installed."""

import subprocess
import sys

import pytest

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
