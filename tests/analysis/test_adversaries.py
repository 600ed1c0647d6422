"""What an attack on the composition adds to the attacks on its members."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from recuse.analysis.attacked_pool import attacked_pool, mechanisms_of
from recuse.analysis.cascade_splits import search_splits
from recuse.analysis.composing import compose_records
from recuse.analysis.contradictions import met
from recuse.analysis.networks import gather
from recuse.analysis.verdicts import verdicts
from recuse.errors import RecordError
from recuse.records.schema import Record, RecordMeta, joint_weights, make_record

IDS = [f"{i:02d}" for i in range(10)]
STAGE, CORE = "aa", "bb"


def model(name: str, weights: str, robust: list[bool], **tags: str) -> Record:
    meta = RecordMeta(
        name,
        "signs/test",
        "apgd",
        "linf",
        ("1/255", "2/255"),
        weights=weights,
        settings={"data": "d"},
        tags=tags,
    )
    columns = {"robust@1/255": robust, "robust@2/255": robust}
    return make_record(meta, {"sample_id": IDS, "accurate": [True] * 10} | columns)


def models() -> list[Record]:
    """Eight samples that the stage surely answers; the core is robust nowhere."""
    return [
        model("stage", STAGE, [True] * 8 + [False] * 2),
        model("core", CORE, [False] * 10, role="core"),
    ]


def attack(left: list[bool], ids: list[str], **changes: object) -> Record:
    settings = {"data": "d", "selectors": [{"kind": "RobustnessIndicator", "radius": None}]}
    given = {
        "model": "other → names",
        "dataset": "signs/test",
        "method": "adaptive",
        "norm": "linf",
        "radii": ("1/255",),
        "weights": joint_weights([STAGE, CORE]),
        "settings": settings,
    }
    return make_record(RecordMeta(**(given | changes)), {"sample_id": ids, "robust@1/255": left})


def composed(*attacks: Record, **options: object):
    (only,) = compose_records(models(), eps="1/255", attacks=attacks, **options)
    return only.rates


def test_what_the_adversary_broke_is_not_in_the_bound() -> None:
    found = composed(attack([False, True, True, True, True, True], [*IDS[:4], *IDS[8:]]))
    assert (found.images, found.attacked) == (6, pytest.approx(5 / 6))
    # One of the eight that the records call sure was broken; four of them nobody attacked.
    assert (found.refuted, found.sound) == (1, pytest.approx(0.7))
    assert found.as_dict()["attacked"] == found.attacked


@pytest.mark.parametrize("radius", [None, 1 / 255, "1/255"])
def test_the_attackers_radius_may_be_written_down(radius: float | str | None) -> None:
    selectors = [{"kind": "RobustnessIndicator", "radius": radius}]
    found = composed(attack([False] * 10, IDS, settings={"data": "d", "selectors": selectors}))
    assert (found.attacked, found.sound) == (0, 0)


def test_of_several_adversaries_the_worst_counts_at_every_sample() -> None:
    one, two = np.arange(10) != 0, np.arange(10) < 9
    found = composed(attack(one.tolist(), IDS), attack(two[5:].tolist(), IDS[5:], seed=1))
    assert (found.images, found.attacked) == (10, pytest.approx(0.8))
    assert found.refuted == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": joint_weights([CORE, STAGE])},
        {"dataset": "signs/train"},
        {"norm": "l2"},
        {"settings": {"data": "other", "selectors": []}},
        {"settings": {"selectors": [{"kind": "SoftmaxResponse", "threshold": 0.5}]}},
        {"settings": {"selectors": [{"kind": "RobustnessIndicator", "radius": 0.1}]}},
        {"method": "apgd"},
    ],
)
def test_an_attack_on_something_else_says_nothing(changes: dict[str, object]) -> None:
    found = composed(attack([False] * 10, IDS, **changes))
    assert found.attacked is None
    assert found.sound == pytest.approx(0.8)
    assert "attacked" not in found.as_dict()


def labelled(record: Record, labels: list[int], **changes: object) -> Record:
    frame = record.frame.with_columns(label=pl.Series(labels, dtype=pl.Int32))
    meta = replace(record.meta, **changes)
    return make_record(meta, frame.to_dict())


def test_an_attack_on_a_part_of_the_images_counts_where_the_samples_are_the_same() -> None:
    whole = [labelled(record, list(range(10))) for record in models()]
    settings = {"data": "part", "selectors": [{"kind": "RobustnessIndicator", "radius": None}]}
    broken = attack([False, True, True], IDS[:3], settings=settings)
    for labels, sound in (([0, 1, 2], 0.7), ([0, 1, 9], 0.8)):
        met = labelled(broken, labels)
        (only,) = compose_records(whole, eps="1/255", attacks=[met])
        assert only.rates.sound == pytest.approx(sound)
    (unknown,) = compose_records(models(), eps="1/255", attacks=[broken])
    assert unknown.rates.sound == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("selector", "threshold", "silent", "wrong"),
    [
        ("SoftmaxResponse", 0.7, ("least_confidence", 0.7), ("worst_confidence", 0.7)),
        ("EntropyResponse", -0.5, ("largest_entropy", 0.5), ("worst_confidence", np.exp(-0.5))),
    ],
)
def test_what_broke_a_stage_with_a_threshold_bounds_every_other_threshold(
    selector, threshold, silent, wrong
) -> None:
    """The adversary found more than the searches of the network by itself had."""
    stage, core = models()
    numbers = {"least_confidence": 0.9, "worst_confidence": 0.1, "largest_entropy": 0.2}
    columns = {f"{kind}@1/255": [value] * 10 for kind, value in numbers.items()}
    judged = make_record(stage.meta, stage.frame.to_dict() | columns)
    settings = {"data": "d", "selectors": [{"kind": selector, "threshold": threshold}]}
    met = attack([False, False, True], IDS[:3], settings=settings, tags={"members": [STAGE, CORE]})
    met = make_record(met.meta, met.frame.to_dict() | {"broken_by": [0, 1, None]})
    found, _ = gather([verdicts(judged), verdicts(core)], [met])
    for (kind, value), row in ((wrong, 0), (silent, 1)):
        known = found.searched(kind, "1/255")
        assert known[row] == pytest.approx(value)
        assert (np.delete(known, row) == numbers[kind]).all()
    # Strictly beyond the threshold: there it abstained.
    assert found.searched(silent[0], "1/255")[1] != value
    assert found.robust("1/255").tolist() == [False, *[True] * 7, False, False]


def test_a_promise_that_an_adversary_broke_is_counted() -> None:
    """Two of the samples that the stage surely answers; the third was promised by nobody."""
    settings = {"data": "d", "selectors": [{"kind": "RobustnessIndicator", "radius": None}]}
    rows = [False, False, True, False]
    record = attack(rows, [*IDS[:3], IDS[8]], settings=settings, tags={"members": [STAGE, CORE]})
    record = make_record(record.meta, record.frame.to_dict() | {"accurate": [True] * 4})
    judged = [verdicts(model) for model in models()]
    (found,) = met([record], judged)
    assert (found.eps, found.contradictions, found.promised.tolist()) == (
        "1/255",
        2,
        [True, True, True, False],
    )
    assert found.survived.tolist() == rows
    assert found.dataset == "signs/test"
    (stage, right, robust), (core, _, lost) = found.alone
    assert (stage, core, right.tolist()) == ("stage", "core", [True] * 4)
    assert robust.tolist() == [True, True, True, False]
    assert not lost.any()
    # What it broke is taken from the members, and then nothing is promised there.
    (later,) = met([record], gather(judged, [record]))
    assert later.contradictions == 0
    assert met([record], judged[:1]) == []


@pytest.mark.parametrize(
    ("name", "made_of"),
    [
        ("era: softmax(threshold=0.7) → core", {"softmax"}),
        (
            "era: indicator → trades: robust-margin(threshold=0.1) → core",
            {"indicator", "robust-margin"},
        ),
        ("mixture(a, b; 0.8): always", {"mixture"}),
        ("mixednuts(a, b; 2, -1, 3, 0.9): softmax(threshold=0.8) → core", {"mixednuts", "softmax"}),
        ("era: always", {"always"}),
    ],
)
def test_a_system_is_made_of_the_mechanisms_that_its_name_says(name, made_of) -> None:
    assert mechanisms_of(name) == made_of


def test_systems_are_chosen_by_what_an_adversary_left_of_each() -> None:
    names = [{"kind": "SoftmaxResponse", "threshold": t} for t in (0.6, 0.9)]
    left = ([True] * 4 + [False] * 4, [True] * 6 + [False] * 2)
    attacks = [
        attack(rows, IDS[:8], settings={"data": "d", "selectors": [name]})
        for name, rows in zip(names, left, strict=True)
    ]
    for record in attacks:
        record.frame.insert_column(1, pl.Series("accurate", [True] * 8))
    pool = attacked_pool(models(), attacks, dataset="signs", eps="1/255")
    (weak, _), (strong, _) = pool.mixtures
    assert (pool.samples, pool.count, pool.mechanisms) == (8, "attacked", ())
    assert weak == "other: softmax(threshold=0.6) → names"
    found = search_splits(pool, max_natural_loss=0.0, max_stages=1, splits=9)
    assert {split.mixture for split in found.splits} <= {weak, strong}
    assert sum(split.mixture == strong for split in found.splits) > 4
    asked = {"dataset": "signs", "eps": "1/255"}
    chosen = attacked_pool(models(), attacks, mechanisms=["softmax"], **asked)
    assert [name for name, _ in chosen.mixtures] == [weak, "other: softmax(threshold=0.9) → names"]
    with pytest.raises(RecordError, match=r"no system of robust-margin alone.*are of: softmax"):
        attacked_pool(models(), attacks, mechanisms=["robust_margin"], **asked)
    with pytest.raises(RecordError, match="recuse attack does it"):
        attacked_pool(models(), [], dataset="signs", eps="1/255")
    apart = [attacks[0], attack([True], IDS[8:9], settings=attacks[1].meta.settings)]
    apart[1].frame.insert_column(1, pl.Series("accurate", [True]))
    with pytest.raises(RecordError, match="share no sample"):
        attacked_pool(models(), apart, dataset="signs", eps="1/255")
