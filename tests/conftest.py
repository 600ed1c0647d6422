"""Fixtures shared by all tests: where the real data lie, if they do."""

import os
from pathlib import Path

import pytest
import torch


def _shared(name: str) -> Path:
    data = os.environ.get("RECUSE_DATA")
    if not data:
        pytest.skip("RECUSE_DATA is not set: this test needs the real data folder")
    folder = Path(data).parent / name
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: this test needs the real {name}")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return _shared("data")


@pytest.fixture(scope="session")
def shared_models() -> Path:
    return _shared("models")


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    return _shared("reference")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same numbers, whichever tests ran before it in the same process."""
    torch.manual_seed(0)
