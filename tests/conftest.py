"""Fixtures shared by all tests: where the real data lie, if they do."""

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import settings

from recuse.analysis.verdicts import add_radii
from recuse.records.schema import RecordMeta, make_record

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


@pytest.fixture(scope="session")
def of_two_classes():
    """Builds records of a network of two classes with its worst probabilities in the ball."""
    return _of_two_classes


def _of_two_classes(
    name, role, seed, *, sure, moves, twice=0.6, samples=200, eps="1/255", settings=None
):
    """The record of a network: p_y at x, how far it moves within eps, what holds at twice that."""
    rng = np.random.default_rng(seed)
    p = np.clip(rng.normal(sure, 0.2, samples), 0.01, 0.99)
    least = np.clip(p - moves * rng.random(samples), 0.001, 0.999)
    holds = (least > 0.5) | (p <= 0.5)
    doubled = add_radii(eps, eps)
    columns = {
        "sample_id": [f"{i:03d}" for i in range(samples)],
        "accurate": p > 0.5,
        "confidence": np.maximum(p, 1 - p),
        f"robust@{eps}": holds,
        f"robust@{doubled}": holds & (least > twice),
        "margin": 2 * p - 1,
        f"worst_margin@{eps}": 2 * least - 1,
        f"worst_confidence@{eps}": 1 - least,
        f"least_confidence@{eps}": least,
    }
    tags = {"role": role}
    meta = RecordMeta(
        name, "signs/test", "apgd-ce", "linf", (eps, doubled), name, settings or {}, tags=tags
    )
    return make_record(meta, columns)
