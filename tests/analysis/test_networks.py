"""All that is known of a network in one place, and never more than what is so."""

import numpy as np
import polars as pl
import pytest

from recuse.analysis.cascade_pool import build_pool
from recuse.analysis.composing import compose_records
from recuse.analysis.compositions import count_composition
from recuse.analysis.measured import gathered
from recuse.analysis.networks import essential, gather
from recuse.analysis.sweeps import least_margin
from recuse.analysis.verdicts import Verdicts, verdicts
from recuse.cli.show import print_summary
from recuse.records.schema import Record, RecordMeta, joint_weights, make_record

IDS = [f"s{i}" for i in range(6)]
GOOD = [True] * 6


def record(robust, *, name="m", ids=IDS, radii=("1/255", "2/255"), flat=None, **changes) -> Record:
    """``robust``: verdicts at each radius; accurate everywhere unless told."""
    columns = {"sample_id": ids, "accurate": changes.pop("accurate", [True] * len(ids))}
    if "confidence" in changes:
        columns["confidence"] = changes.pop("confidence")
    columns |= dict(zip((f"robust@{r}" for r in radii), robust, strict=True))
    columns |= {} if flat is None else {"flat": flat}
    given = {"dataset": "d", "method": "apgd", "norm": "linf", "weights": "w", "radii": radii}
    return make_record(RecordMeta(name, **(given | changes)), columns)


def but(*broken: int, size: int = 6) -> list[bool]:
    return [i not in broken for i in range(size)]


def robust(found: Verdicts, radius: str = "1/255") -> list[bool]:
    return found.robust(radius).tolist()


def both(*records: Record, attacks=(), homes=()) -> list[Verdicts]:
    return gather([verdicts(r) for r in records], attacks, homes)


def test_what_any_record_of_a_network_broke_is_broken_in_all_of_them() -> None:
    found = both(
        record([but(0), but(0, 1)]),
        record([but(2)] * 2, method="apgd-dlr", name="under another name"),
        record([[False] * 2], method="square", ids=IDS[3:5], radii=("1/255",)),
    )
    assert robust(found[0]) == robust(found[1]) == but(0, 2, 3, 4)
    assert robust(found[0], "2/255") == robust(found[1], "2/255") == but(0, 1, 2, 3, 4)
    assert robust(found[2]) == [False, False]
    assert [v.meta.model for v in found] == ["m", "under another name", "m"]
    # An attack on some of the samples breaks them, but the network has not met it everywhere.
    assert [{m.method for m in v.met} for v in found[:2]] == [{"apgd", "apgd-dlr"}] * 2


def test_the_order_of_the_records_does_not_matter() -> None:
    records = [
        record([but(0), but(0, 1)]),
        record([but(2)], method="a", radii=("2/255",)),
        record([but(5)], method="b", radii=("1/255",)),
        record([[None] * 6] * 2, method="c", flat=GOOD),
    ]
    for radius, judged in (("1/255", 3), ("2/255", 3)):
        found = [both(*records[:judged][k:], *records[:judged][:k])[0] for k in range(judged)]
        assert len({tuple(robust(v, radius)) for v in found}) == 1
    for order in (records, records[::-1]):
        blind = both(*order)[0]
        assert blind.broken("2/255").tolist() == [True, True, True, False, False, True]
        assert blind.not_judged("2/255").tolist() == [False, False, False, True, True, False]


def test_of_what_any_attack_broke_no_margin_is_left() -> None:
    columns = {"sample_id": IDS, "accurate": but(5), "robust@1/255": but(0)}
    columns["stable_margin@1/255"] = [0.3, 0.2, 0.0, 0.1, None, 0.4]
    meta = RecordMeta("m", "d", "apgd", "linf", ("1/255",), "w")
    found = least_margin(verdicts(make_record(meta, columns)), "1/255")
    assert found.tolist()[:4] == [0.0, 0.2, 0.0, 0.1]
    assert np.isnan(found[4])
    assert found[5] == -1


def test_a_break_counts_at_every_larger_radius_and_a_verdict_at_none() -> None:
    near = record([but(1)], radii=("1/255",), method="a")
    far = record([but(2)], radii=("4/255",), method="b")
    found = both(near, far)[0]
    assert found.radii() == ["1/255", "4/255"]
    assert robust(found, "1/255") == but(1)
    assert robust(found, "4/255") == but(1, 2)


def test_a_radius_that_was_not_asked_of_every_sample_is_not_added() -> None:
    part = record([but(0, size=3)], radii=("4/255",), ids=IDS[:3], method="a")
    whole, half = both(record([GOOD, GOOD]), part)
    assert whole.radii() == ["1/255", "2/255"]
    assert half.radii() == ["1/255", "2/255", "4/255"]
    assert half.robust("4/255").tolist() == but(0, size=3)


@pytest.mark.parametrize(
    "other",
    [
        {"weights": "other"},
        {"norm": "l2"},
        {"dataset": "e"},
        {"settings": {"data": "other"}},
        {"accurate": [False] + [True] * 5},
        {"confidence": [0.5] * 6},
    ],
)
def test_another_function_or_question_breaks_nothing_here(other) -> None:
    mine = record([GOOD, GOOD], settings={"data": "mine"}, confidence=[0.9] * 6)
    found = both(mine, record([[False] * 6] * 2, method="x", **({"settings": {}} | other)))
    assert robust(found[0]) == GOOD


def test_without_weights_names_count_within_one_home() -> None:
    pair = [record([but(i)] * 2, weights="", method=str(i)) for i in (0, 1)]
    assert robust(both(*pair)[0]) == but(0, 1)
    assert robust(both(*pair, homes=["one", "other"])[0]) == but(0)
    known = [record([but(i)] * 2, method=str(i)) for i in (0, 1)]
    assert robust(both(*known, homes=["one", "other"])[0]) == but(0, 1)


def test_a_record_that_says_nothing_of_its_own_is_not_shown_twice() -> None:
    wide = record([GOOD, GOOD])
    found = both(wide, record([but(0)] * 2, method="dlr"), record([GOOD], radii=("8/255",)))
    # The third judged a radius of its own, of every sample: by now all three know it.
    assert len(essential(found)) == 1
    few = both(wide, record([but(0, size=2)], radii=("8/255",), ids=IDS[:2]))
    assert essential(few) == [0, 1]
    assert essential(both(wide, wide), ["one", "other"]) == [0, 1]


# Attacks on compositions, told by their witnesses.

CORE = {"name": "core", "weights": "c", "tags": {"role": "core"}}
PLAIN = {"kind": "RobustnessIndicator", "radius": None}


def attack(left, by=None, *, members=("w", "c"), selectors=(PLAIN,), listed=True, **changes):
    meta = {
        "model": "m → core" if len(members) == 2 else "core",
        "method": "adaptive",
        "weights": joint_weights(members),
        "settings": {"selectors": list(selectors)},
        "tags": {"members": list(members)} if listed else {},
    }
    columns = {"sample_id": IDS, "robust@1/255": left}
    columns |= {} if by is None else {"broken_by": by}
    given = {"dataset": "d", "norm": "linf", "radii": ("1/255",)}
    return make_record(RecordMeta(**(meta | given | changes)), columns)


def test_who_answered_wrongly_broke_and_who_abstained_is_not_stable_to_twice_eps() -> None:
    models = [record([GOOD, GOOD]), record([GOOD, GOOD], **CORE)]
    stage, core = both(*models, attacks=[attack(but(0, 1), [0, 1, *[None] * 4])])
    assert robust(stage) == but(0)
    assert robust(stage, "2/255") == but(0, 1)
    assert robust(core) == robust(core, "2/255") == but(1)


def test_a_member_that_is_wrong_anyway_is_not_broken_by_its_answer() -> None:
    wrong = record([GOOD, GOOD], accurate=[False] * 6)
    stage, _ = both(wrong, record([GOOD, GOOD], **CORE), attacks=[attack(but(0), [0, *[None] * 5])])
    assert robust(stage, "2/255") == GOOD


@pytest.mark.parametrize("listed", [True, False])
def test_records_that_do_not_say_who_answered_tell_of_the_first_stage_alone(listed) -> None:
    models = [record([GOOD, GOOD]), record([GOOD, GOOD], **CORE)]
    stage, core = both(*models, attacks=[attack(but(3), listed=listed)])
    assert (robust(stage), robust(stage, "2/255")) == (GOOD, but(3))
    assert robust(core) == GOOD
    # Alone as a composition of none, the core is the first.
    alone = attack(but(4), members=("c",), selectors=(), listed=listed)
    _, core = both(*models, attacks=[alone])
    assert robust(core) == but(4)


@pytest.mark.parametrize(
    "change",
    [
        {"selectors": [{"kind": "SoftmaxResponse", "threshold": 0.6}]},
        {"members": ("x", "c")},
        {"dataset": "e"},
        {"method": "apgd"},
    ],
)
def test_an_attack_on_something_else_refutes_no_stage(change) -> None:
    models = [record([GOOD, GOOD]), record([GOOD, GOOD], **CORE)]
    stage, _ = both(*models, attacks=[attack(but(0), [1, *[None] * 5], **change)])
    assert robust(stage, "2/255") == GOOD


RING = 18


def stable(labels, radius: int):
    ball = np.stack([np.roll(labels, d) for d in range(-radius, radius + 1)])
    return (ball == labels).all(0)


@pytest.mark.parametrize("seed", range(40))
def test_a_witness_never_refutes_what_is_so_and_always_what_it_broke(seed) -> None:
    """A ring of points, every composition and its truth tried; verdicts that claim too much."""
    rng = np.random.default_rng(seed)
    eps, count = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    blocks = rng.integers(2, 7, count + 1)
    labels = [np.repeat(rng.integers(0, 2, RING), b)[:RING] for b in blocks]
    y = np.where(rng.random(RING) < 0.2, rng.integers(0, 2, RING), labels[0])
    ids, radii = [f"{i:02d}" for i in range(RING)], (f"{eps}/255", f"{2 * eps}/255")
    weights = [f"w{n}" for n in range(count + 1)]
    who = np.full(RING, count)
    for n in reversed(range(count)):
        who = np.where(stable(labels[n], eps), n, who)
    answers = np.choose(who, labels)
    by, left = np.full(RING, -1), np.ones(RING, bool)
    for x in range(RING):
        wrong = [p % RING for p in range(x - eps, x + eps + 1) if answers[p % RING] != y[x]]
        if wrong:
            by[x], left[x] = who[rng.choice(wrong)], False
    models, exact = [], []
    for n, own in enumerate(labels):
        near, far = stable(own, eps), stable(own, 2 * eps)
        exact.append((near, far))
        sure = far | (rng.random(RING) < 0.5)
        claimed = [near | sure | (rng.random(RING) < 0.5), sure]
        models.append(
            record(
                claimed, name=f"n{n}", ids=ids, radii=radii, weights=weights[n], accurate=own == y
            )
        )
    meta = RecordMeta(
        "any", "d", "adaptive", "linf", radii[:1], weights=joint_weights(weights),
        settings={"selectors": [PLAIN] * count}, tags={"members": weights},
    )  # fmt: skip
    columns = {"sample_id": ids, f"robust@{radii[0]}": left}
    told = make_record(meta, columns | {"broken_by": pl.Series(by).replace(-1, None)})
    for record_of_attack in (told, make_record(meta, columns)):
        found = both(*models, attacks=[record_of_attack])
        for v, (near, far) in zip(found, exact, strict=True):
            assert not (near & ~v.robust(radii[0])).any()
            assert not (far & ~v.robust(radii[1])).any()
    chain = count_composition(both(*models, attacks=[told]), radii[0], "robust")
    assert not (chain.sound.robust & ~left).any()


def test_one_composition_has_one_number_wherever_it_is_counted() -> None:
    stage = record([GOOD, but(5)], tags={"role": "robust"})
    core = record([but(0), but(0)], **CORE)
    dlr = record([but(1), but(1)], **(CORE | {"name": "elsewhere"}), method="apgd-dlr")
    other = record([GOOD, GOOD], name="other", weights="o", tags={"role": "robust"})
    # On another composition with the same core, the core answered wrongly.
    pair = attack(but(5), [*[None] * 5, 1], members=("o", "c"), model="other → core")
    records = [stage, core, dlr, other]
    apart = compose_records([stage, core], eps="1/255")
    assert apart[0].rates.sound == 1
    counted = compose_records(records[:2] + records[3:], eps="1/255", core="core", attacks=[pair])
    sound = {c.name: c.rates.sound for c in counted}
    # Sample 5: the stage is not sure to answer there, and the core fell in the other composition.
    assert sound["m → core"] == pytest.approx(5 / 6)
    pool = build_pool(records[:2] + records[3:], dataset="d", eps="1/255", attacks=[pair])
    assert (pool.core.accurate & pool.core.robust).tolist() == but(0, 5)
    with_dlr = compose_records(records, eps="1/255", core="core", stages=["m"])
    assert with_dlr[0].alone[-1].robust.tolist() == but(0, 1)


def test_shown_and_reported_is_what_any_attack_left(capsys: pytest.CaptureFixture[str]) -> None:
    members = [
        record([but(0)] * 2),
        record([but(1)] * 2, method="apgd-dlr"),
        record([GOOD, GOOD], **CORE),
    ]
    on_whole = [attack(but(2), [None, None, 0, None, None, None])]
    known = gathered([verdicts(member) for member in members], on_whole)
    assert [robust(v) for v in known] == [but(0, 1, 2), GOOD]
    print_summary(members, on_whole)
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "linf:" in line]
    assert [row[5].split()[0] for row in rows] == ["50.0", "50.0", "100.0", "100.0"]


def test_one_network_under_two_names_is_no_stage_before_itself() -> None:
    core = record([but(0), but(0)], **CORE)
    again = record([but(1), but(1)], **(CORE | {"name": "core elsewhere"}), method="apgd-dlr")
    stage = record([GOOD, but(5)], tags={"role": "robust"})
    (only,) = compose_records([core, again, stage], eps="1/255")
    assert only.name == "m → core"
    assert only.alone[-1].robust.tolist() == but(0, 1)
