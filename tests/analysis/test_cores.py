"""Which model is the core: one answer for a command, a search and a report."""

import numpy as np
import pytest

from recuse.analysis.cascade_pool import build_pool
from recuse.analysis.composing import compose_all, compose_records
from recuse.analysis.cores import cores
from recuse.analysis.verdicts import verdicts
from recuse.errors import RecordError
from recuse.records.schema import Record, RecordMeta, make_record

SAMPLES = 10
EPS = "1/255"


def model(name: str, right: int, **tags: str) -> Record:
    stable = np.arange(SAMPLES) % 2 == 0
    meta = RecordMeta(name, "signs/test", "apgd-ce", "linf", (EPS, "2/255"), tags=tags)
    columns = {
        "sample_id": [f"{i:02d}" for i in range(SAMPLES)],
        "accurate": np.arange(SAMPLES) < right,
        "robust@1/255": stable,
        "robust@2/255": stable,
    }
    return make_record(meta, columns)


STAGE = model("stage", 8, role="robust")


def answers(*records: Record) -> list[str | None]:
    """The core by the command, by the search and by the report; None where it is refused."""
    found: list[str | None] = []
    for ask in (
        lambda: {c.core.meta.model for c in compose_records(records, eps=EPS)},
        lambda: {build_pool(records, dataset="signs", eps=EPS).core_name},
        lambda: {c.core.meta.model for c in compose_all([verdicts(r) for r in records])},
    ):
        try:
            (name,) = ask()
            found.append(name)
        except (RecordError, ValueError):
            found.append(None)
    return found


def test_a_declared_core_is_the_core_even_beside_a_more_accurate_network():
    declared, better = model("core", 8, role="core"), model("std", 10, loss="std")
    assert answers(better, declared, STAGE) == ["core"] * 3


def test_where_nobody_says_so_the_most_accurate_standard_network_is_the_core():
    networks = [model("weak", 7, loss="std"), model("strong", 9, loss="wstd"), STAGE]
    assert answers(*networks) == ["strong"] * 3
    assert answers(*reversed(networks)) == ["strong"] * 3


def test_two_cores_are_a_choice_for_the_caller():
    both = [model(f"core {n}", n, role="core") for n in (8, 9)]
    for choose in (
        lambda **core: compose_records([*both, STAGE], eps=EPS, **core),
        lambda **core: build_pool([*both, STAGE], dataset="signs", eps=EPS, **core),
    ):
        with pytest.raises(RecordError, match=r"2 models have the role core \(core 8, core 9\)"):
            choose()
        choose(core="core 8")
    # A report chooses nothing: it shows the compositions with each of them.
    assert {c.name for c in compose_all([verdicts(r) for r in [*both, STAGE]])} == {
        "stage → core 8",
        "stage → core 9",
    }


def test_without_a_core_nothing_is_composed():
    assert answers(STAGE, model("other", 9, role="standard")) == [None] * 3
    assert cores([verdicts(STAGE)]) == []
    with pytest.raises(RecordError, match="no model is tagged as a core"):
        compose_records([STAGE], eps=EPS)
