"""Fixtures shared by all tests: where the real data lie, if they do."""

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import settings

# How long an example takes depends on who else computes here, and says nothing of the code.
settings.register_profile("recuse", deadline=None)
settings.load_profile("recuse")


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


@pytest.fixture(autouse=True)
def _types(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every call checks its types, which takes longer than most calls.

    Tests that make the same calls many thousand times leave that to the tests beside them.
    """
    many = request.node.get_closest_marker("types_checked_elsewhere") is not None
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", before or many)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
