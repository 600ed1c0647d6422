"""What an audit reads off records, against records whose every rate is known."""

import shlex
from itertools import product

import numpy as np
import pytest

from recuse.analysis.audit import Audit, Finding, audit, by_class
from recuse.analysis.compositions import count_composition
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import verdicts
from recuse.cli.main import parse
from recuse.errors import RecordError
from recuse.records.schema import Recheck, Record, RecordMeta, make_record
from recuse.report.audit.page import audit_page
from recuse.report.audit.words import Asked, Slope, next_command, paragraph, verdict_in_words
from recuse.report.page.html import render_html

EPS = "2/255"
ASKED = Asked("era.safetensors", ("my images",), f"linf:{EPS}", "runs/audit", "core")
Row = tuple[bool, bool | None, bool]


def record(rows: list[Row], name: str = "net", recheck: str | None = None, role="robust") -> Record:
    """One image a row: right, unchanged within eps (None: not judged), within 2 eps."""
    meta = RecordMeta(
        name, "drawn/test", "apgd-ce", "linf", (EPS, "4/255"), weights=name, tags={"role": role}
    )
    right = [r for r, _, _ in rows]
    columns = {
        "sample_id": [f"{i:05d}" for i in range(len(rows))],
        "label": [i % 4 for i in range(len(rows))],
        "prediction": [(i + (not r)) % 4 for i, r in enumerate(right)],
        "accurate": right,
        "confidence": [0.5] * len(rows),
        f"robust@{EPS}": [near for _, near, _ in rows],
        "robust@4/255": [far and near for _, near, far in rows],
        "flat": [near is None for _, near, _ in rows],
        "recheck": [recheck] * len(rows),
    }
    return make_record(meta, columns)


def mixed(stable_right: int, fragile_right: int, fragile_wrong: int, stable_wrong: int) -> Record:
    return record(
        [(True, True, True)] * stable_right
        + [(True, False, False)] * fragile_right
        + [(False, False, False)] * fragile_wrong
        + [(False, True, True)] * stable_wrong
    )


def core(rows: list[Row]) -> Record:
    return record(rows, "core", role="core")


FINDINGS: list[tuple[Finding, Record, Record | None]] = [
    ("guessing", mixed(10, 20, 40, 30), None),
    ("guessing", record([(False, None, False)] * 50), None),
    ("hidden", record([(True, None, False)] * 30 + [(True, True, True)] * 20), None),
    ("hidden", record([(True, True, True)] * 50, recheck=Recheck.BLACK_BOX), None),
    ("hidden", record([(True, True, True)] * 50, recheck=Recheck.RANDOM), None),
    ("enough", mixed(100, 0, 0, 0), None),
    ("enough", mixed(99, 0, 1, 0), None),
    ("fragile", mixed(40, 50, 10, 0), None),
    ("stubborn", mixed(70, 10, 5, 15), None),
    ("stage", mixed(70, 10, 15, 5), None),
    ("composition", mixed(60, 5, 35, 0), core([(True, False, False)] * 100)),
    (
        "alone",
        mixed(80, 0, 0, 20),
        core([(True, False, False)] * 81 + [(False, False, False)] * 19),
    ),
    ("core", mixed(40, 10, 20, 30), core([(True, True, True)] * 100)),
    (
        "hidden",
        mixed(60, 5, 35, 0),
        record([(True, True, True)] * 100, "core", Recheck.RANDOM, "core"),
    ),
]


def found(network: Record, other: Record | None = None) -> Audit:
    return audit(network, EPS, classes=4, core=other)


@pytest.mark.parametrize(("finding", "network", "other"), FINDINGS)
def test_what_weighs_most_is_said_with_a_command_that_can_be_typed(
    finding: Finding, network: Record, other: Record | None
) -> None:
    read = found(network, other)
    assert read.finding == finding
    words = shlex.split(next_command(read, ASKED))
    assert words[0] == "recuse"
    assert callable(parse(words[1:]))
    assert "my images" in words
    slopes = [Slope("net", 32, 1.5, 0.5)]
    said = paragraph(read, slopes, ASKED)
    assert "\n" not in said
    assert "{" not in said
    assert said.endswith(next_command(read, ASKED))
    assert "nan" not in said
    page = audit_page(read, slopes, ASKED, label_names=("a", "b", "c", "d"))
    shown = render_html(page)
    assert verdict_in_words(read, ASKED)[:40] in shown


@pytest.mark.parametrize("seed", range(20))
def test_no_core_adds_more_than_the_ceiling_and_it_is_reached(seed: int) -> None:
    draw = np.random.default_rng(seed)
    kinds = [(a, b, b and c) for a, b, c in product((True, False), repeat=3)]
    rows = [kinds[i] for i in draw.integers(0, 8, 60)]
    other = [kinds[i] for i in draw.integers(0, 8, 60)]
    read = found(record(rows), core(other))
    assert read.composition is not None
    assert not (read.composition.sound.natural & ~read.ceiling.natural).any()
    assert not (read.composition.sound.robust & ~read.ceiling.robust).any()
    ideal = count_composition(
        [verdicts(record(rows)), verdicts(core([(True, True, True)] * 60))], EPS, "robust"
    )
    np.testing.assert_array_equal(ideal.sound.natural, read.ceiling.natural)
    np.testing.assert_array_equal(ideal.sound.robust, read.ceiling.robust)
    added = read.at_most
    parts = read.near.splits
    assert parts is not None
    assert added.natural.estimate == pytest.approx(parts.fragile_inaccurate)
    assert added.robust.estimate == pytest.approx(parts.fragile_accurate)


def test_rates_of_the_network_are_in_the_paragraph() -> None:
    said = paragraph(found(mixed(50, 25, 15, 10)), [Slope("net", 32, 1.5, 0.5)], ASKED)
    assert "is right on 75.0\u00a0% (" in said
    assert "stays right on 50.0\u00a0% (" in said
    assert "On 10.0\u00a0% (" in said
    assert "would select 60.0\u00a0% (" in said
    assert "of these 83.3\u00a0% (" in said
    assert "at most +15.0 points (" in said
    assert "+25.0 points (" in said
    assert "upper bound" in said


def test_a_composition_that_gains_natural_accuracy_alone_is_not_talked_down() -> None:
    near = [(True, True, True)] * 40 + [(True, True, False)] * 25 + [(True, False, False)] * 10
    stage = record([*near, *[(False, False, False)] * 20, *[(False, True, True)] * 5])
    read = found(stage, core([(True, False, False)] * 100))
    assert read.finding == "alone"
    assert "unless natural accuracy counts most" in verdict_in_words(read, ASKED)


def test_what_another_attack_broke_is_broken_here() -> None:
    network = mixed(80, 10, 10, 0)
    rows = [(True, i >= 30, i >= 30) for i in range(80)] + [(True, False, False)] * 10
    other = record([*rows, *[(False, False, False)] * 10])
    read = audit(network, EPS, classes=4, records=[other])
    assert read.near.robust is not None
    assert read.near.robust.estimate == pytest.approx(0.5)


def test_classes_add_up_to_the_whole_the_least_robust_first() -> None:
    read = found(mixed(37, 21, 19, 23))
    classes = by_class(read.network, EPS)
    assert sum(c.samples for c in classes) == 100
    for name in ("natural", "robust", "robust_inaccuracy"):
        together = sum(c.samples * getattr(c, name).estimate for c in classes) / 100
        assert together == pytest.approx(getattr(read.near, name).estimate)
    order = [c.robust.estimate for c in classes]
    assert order == sorted(order)


def test_a_record_without_the_double_is_refused() -> None:
    network = mixed(10, 0, 0, 0)
    near = make_record(
        RecordMeta("net", "drawn/test", "apgd-ce", "linf", (EPS,)),
        network.frame.drop("robust@4/255").to_dict(as_series=False),
    )
    with pytest.raises(RecordError, match="4/255"):
        found(near)


def test_a_function_is_told_that_it_has_to_be_imported() -> None:
    asked = Asked("nets:build", ("images",), f"linf:{EPS}", "runs/audit", stored=False)
    assert "models import" in verdict_in_words(found(mixed(40, 50, 10, 0)), asked)
    assert "models import" not in verdict_in_words(found(mixed(70, 10, 15, 5)), asked)


def test_ceiling_of_a_network_that_is_never_right() -> None:
    read = found(mixed(0, 0, 30, 70))
    assert (rate(read.ceiling.natural), rate(read.ceiling.robust)) == (0.3, 0.0)
    assert "nan" not in paragraph(read, [Slope("net", 5, 0.0, 0.0)], ASKED)
