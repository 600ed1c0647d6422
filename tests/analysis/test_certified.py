"""What the pages say of certified networks, counted by hand on a few rows."""

import numpy as np
import pytest

from recuse.analysis.certified import (
    Panel,
    answers,
    bounded,
    change,
    composed,
    panels,
    verdict,
)
from recuse.analysis.intervals import Interval
from recuse.analysis.verdicts import verdicts
from recuse.errors import RecordError
from recuse.records.schema import Record, RecordMeta, make_record

IDS = [f"x{n}" for n in range(6)]
RIGHT = [True, True, True, True, False, False]
AT_EPS = [True, True, True, False, True, False]
AT_DOUBLE = [True, True, False, False, False, False]
AT_NEEDED = [True, False, False, False, False, False]


def smoothed(phase="base", at_eps=AT_EPS, deployed=False, **tags) -> Record:
    settings = {"alpha": 0.001, "sigma": 0.12}
    columns = {"certified@0.12": at_eps, "certified@0.24": AT_DOUBLE}
    if deployed:
        settings["deployed"] = {
            "beta": 0.001,
            "needs": {"0.12": "0.2647"},
            "alone": {"0.12": "0.1417"},
        }
        columns |= {"certified@0.1417": AT_DOUBLE, "certified@0.2647": AT_NEEDED}
    radii = tuple(sorted(name.partition("@")[2] for name in columns))
    meta = RecordMeta(
        model=f"net {phase}",
        dataset="d/test",
        method="smoothing",
        norm="l2",
        radii=radii,
        weights=phase,
        settings=settings,
        tags={"role": "robust", "base": "net", "phase": phase, "sigma": 0.12, **tags},
    )
    rows = {"sample_id": IDS, "prediction": [0] * 6, "accurate": RIGHT, "samples": [9] * 6}
    return make_record(meta, rows | columns)


def core() -> Record:
    meta = RecordMeta("core", "d/test", "apgd-ce", "l2", ("0.12",), "c", tags={"role": "core"})
    rows = {"sample_id": IDS, "accurate": [True] * 6, "robust@0.12": [False] * 6}
    return make_record(meta, rows)


def test_panels_part_noise_levels_and_rounds_of_training_and_order_what_was_trained():
    records = [smoothed("cra 0.3"), smoothed("cra 1"), smoothed("gaussian"), smoothed()]
    found = panels([*records, smoothed(trained="again")])
    assert list(found) == [Panel(False, "net", 0.12), Panel(True, "net", 0.12)]
    assert list(found[Panel(False, "net", 0.12)]) == ["base", "gaussian", "cra 1", "cra 0.3"]
    with pytest.raises(RecordError, match="two records"):
        panels([smoothed(), smoothed()])


def test_answers_are_right_wrong_and_far():
    asked = answers(verdicts(smoothed()), "0.12")
    assert asked.right.sum() == 3
    assert asked.wrong.tolist() == [False] * 4 + [True, False]
    assert asked.far.sum() == 2


def test_a_change_is_paired_and_counts_by_its_interval():
    wide = answers(verdicts(smoothed("cra 1", at_eps=[True] * 6)), "0.12")
    found = change(wide, answers(verdicts(smoothed()), "0.12"))
    assert (found.right.estimate, found.wrong.estimate) == (pytest.approx(1 / 6),) * 2
    below, above, around = (Interval(e, e - 0.1, e + 0.1) for e in (-0.2, 0.2, 0.0))
    counted = verdict([below, above, around, Interval(0.1, 0.0, 0.2)])
    assert (counted.lower, counted.higher, counted.neither) == (1, 1, 2)


def test_surely_right_needs_the_radius_that_the_record_names():
    found = composed(smoothed(), core(), "0.12")
    assert found.lacking
    assert found.promised_alone(0).lacking
    assert found.paper.robust.sum() == 2
    found = composed(smoothed(deployed=True), core(), "0.12")
    assert not found.lacking
    assert not found.promised_alone(0).lacking
    assert found.alone[0].robust.sum() == 2
    # Nothing is proven about the core: only what the stage surely answers counts.
    assert found.sound.robust.tolist() == AT_NEEDED
    assert found.sound.natural.tolist() == [True, True, True, True, False, True]


def test_a_core_judged_on_more_images_is_held_against_the_same_ones():
    some = smoothed(deployed=True)
    fewer = Record(some.meta, some.frame.head(3))
    assert composed(fewer, core(), "0.12").sound.robust.tolist() == AT_NEEDED[:3]


def proof(method: str, certified: list[bool]) -> Record:
    meta = RecordMeta("kw", "d/test", method, "linf", ("0.1",), "k")
    rows = {"sample_id": IDS, "prediction": [0] * 6, "accurate": RIGHT}
    return make_record(meta, rows | {"certified@0.1": certified})


def test_bounds_stand_beside_an_attack_that_could_contradict_them():
    meta = RecordMeta("kw", "d/test", "pgd", "linf", ("0.1",), "k")
    kept = [True, True, True, None, True, False]
    rows = {"sample_id": IDS, "accurate": RIGHT, "flat": [k is None for k in kept]}
    attacked = make_record(meta, rows | {"robust@0.1": kept})
    (row,) = bounded([proof("ibp", AT_DOUBLE), proof("crown", [*AT_EPS[:5], True]), attacked])
    # What the attack could not judge is neither broken nor a contradiction.
    assert row.attacked.sum() == 4
    assert {name: int(np.sum(mask)) for name, mask in row.proven.items()} == {"ibp": 2, "crown": 5}
    assert row.contradicted == {"ibp": 0, "crown": 1}
    (other,) = bounded([attacked, proof("crown", [*AT_EPS[:5], True]), proof("ibp", AT_DOUBLE)])
    assert list(other.proven) == list(row.proven) == ["ibp", "crown"]
    with pytest.raises(RecordError, match="was not attacked"):
        bounded([proof("ibp", AT_DOUBLE)])
