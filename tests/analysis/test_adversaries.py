"""What an attack on the composition adds to the attacks on its members."""

import numpy as np
import pytest

from recuse.analysis.composing import compose_records
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
