import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def linear_models():
    """Classifiers whose robustness has a closed form (shared with the selector tests)."""
    name = "linear_models"
    if name not in sys.modules:
        file = Path(__file__).parents[1] / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, file)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
