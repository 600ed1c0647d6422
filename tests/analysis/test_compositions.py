"""Compositions from records: attacks or certificates, counted by the same formulas."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from recuse.analysis.composing import compose_records
from recuse.analysis.compositions import core_of, stage_of
from recuse.analysis.verdicts import verdicts
from recuse.errors import RecordError
from recuse.records.schema import RecordMeta, make_record

SAMPLES = 200


def rates(records, **options):
    """The rates of every composition of these records."""
    return [chain.rates for chain in compose_records(records, **options)]


RADII = ("0.12", "0.24")
RNG = np.random.default_rng(7)


def record(name, kind, accurate, near, far, *, role="robust", radii=RADII):
    """``near`` and ``far``: stable at the first and at the second radius."""
    columns = {
        "sample_id": [f"s{i:03d}" for i in range(SAMPLES)],
        "prediction": np.zeros(SAMPLES, dtype=np.int32),
        "accurate": accurate,
    }
    columns |= dict(zip((f"{kind}@{r}" for r in radii), (near, far)[: len(radii)], strict=True))
    # Of votes, of which a stage needs what happens to be certified at the second radius.
    needs = {"beta": 0.002, "needs": {"0.12": "0.24"}, "alone": {"0.12": "0.12"}}
    told = {"alpha": 0.001, "deployed": needs}
    attack, settings = ("smoothing", told) if kind == "certified" else ("apgd-ce", {})
    if kind == "bounds":
        attack, settings = "ibp", {}
        columns = {c.replace("bounds@", "certified@"): v for c, v in columns.items()}
    return make_record(
        RecordMeta(
            name, "cifar10/test", attack, "l2", radii, settings=settings, tags={"role": role}
        ),
        columns,
    )


def random_model(name, kind, role="robust"):
    reach = RNG.integers(0, 3, SAMPLES)
    return record(name, kind, RNG.random(SAMPLES) < 0.7, reach > 0, reach > 1, role=role)


CORE = record("core", "robust", RNG.random(SAMPLES) < 0.95, *RNG.random((2, SAMPLES)) < 0.0,
              role="core")  # fmt: skip


OF_PROOFS = ("kind", "alone", "failure", "lacking")


def test_certificates_and_attacks_are_counted_by_the_same_formula():
    proven = random_model("m", "certified")
    columns = {c: proven.frame[c] for c in ("sample_id", "prediction", "accurate")}
    columns |= {f"robust@{r}": proven.frame[f"certified@{r}"] for r in RADII}
    attacked = make_record(RecordMeta("m", "cifar10/test", "apgd-ce", "l2", RADII), columns)
    (by_proof,) = rates([proven, CORE], eps="0.12")
    (by_attack,) = rates([attacked, CORE], eps="0.12")
    assert (by_proof.kind, by_attack.kind) == ("certified", "robust")
    numbers = [
        {k: v for k, v in entry.as_dict().items() if k not in OF_PROOFS}
        for entry in (by_proof, by_attack)
    ]
    assert numbers[0] == numbers[1]
    assert replace(by_proof.alone[0], failure=0.0) == by_attack.alone[0]
    # No attack left anything of the core; whether anything is proven of it, nobody asked.
    assert [entry.alone[1].robust for entry in (by_proof, by_attack)] == [None, 0]


def test_a_core_without_certificates_is_never_proven_robust():
    stage = random_model("m", "certified")
    core = record("core", "robust", *np.ones((3, SAMPLES), dtype=bool), role="core")
    (composed,) = rates([stage, core], eps="0.12")
    judged = verdicts(stage)
    # Only what the stage proves at twice the radius is left.
    assert composed.sound == np.mean(judged.accurate() & judged.certified("0.24"))
    assert not core_of(verdicts(core), "0.12", "certified").robust.any()
    proven = record("core", "bounds", *np.ones((3, SAMPLES), dtype=bool), role="core")
    (better,) = rates([stage, proven], eps="0.12")
    assert better.sound == np.mean(judged.accurate())


def test_the_chance_of_failure_stands_beside_what_is_proven():
    """Alpha and beta of every stage that draws votes; bounds do not fail."""
    votes, bounds = random_model("v", "certified"), random_model("b", "bounds")
    (one,) = rates([votes, CORE], eps="0.12")
    (none,) = rates([bounds, CORE], eps="0.12")
    (both,) = rates([votes, bounds, CORE], eps="0.12", stages=("v", "b"))
    (twice,) = rates([votes, replace_model(votes, "w"), CORE], eps="0.12", stages=("v", "w"))
    assert [r.failure for r in (one, none, both, twice)] == pytest.approx([0.003, 0, 0.003, 0.006])
    assert one.as_dict()["failure"] == pytest.approx(0.003)


def test_a_smoothed_model_alone_is_counted_as_it_is_deployed_too():
    """It answers by votes as well: at the border of its ball these are as good as a coin."""
    stage = random_model("m", "certified")
    judged, told = verdicts(stage), stage.meta.settings["deployed"]
    (found,) = rates([stage, CORE], eps="0.12")
    assert found.alone[0].robust == np.mean(judged.accurate() & judged.certified("0.12"))
    assert found.alone[0].failure == pytest.approx(0.003)
    wider = changed(stage, deployed=told | {"alone": {"0.12": "0.24"}})
    (found,) = rates([wider, CORE], eps="0.12")
    assert found.alone[0].robust == np.mean(judged.accurate() & judged.certified("0.24"))
    unsaid = changed(stage, deployed={k: v for k, v in told.items() if k != "alone"})
    (found,) = rates([unsaid, CORE], eps="0.12")
    assert found.alone[0].robust is None
    assert found.sound is not None
    # Bounds prove what the network itself answers, which it does without votes.
    (bounds,) = rates([random_model("b", "bounds"), CORE], eps="0.12")
    assert bounds.alone[0].failure == 0.0
    assert bounds.alone[0].robust is not None


def replace_model(found, name):
    return make_record(
        replace(found.meta, model=name), {c: found.frame[c] for c in found.frame.columns}
    )


def changed(found, **settings):
    """The same rows with other settings."""
    meta = replace(found.meta, settings=found.meta.settings | settings)
    return make_record(meta, {c: found.frame[c] for c in found.frame.columns})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"deployed": {}}, "does not hold the certificate .* certify it again"),
        ({"deployed": {"beta": 0.002, "needs": {"0.1": "0.24"}}}, "does not hold"),
        ({"deployed": {"beta": 0.002, "needs": {"0.12": "0.2475"}}}, "does not hold"),
        ({"deployed": {"beta": 0.002, "needs": {"0.12": None}}}, "draws too few votes"),
        (
            {"certifier": {"n_max": 30, "sigma": 0.12, "alpha": 0.001}},
            "draws too few votes",
        ),
    ],
)
def test_without_what_a_deployed_stage_needs_nothing_is_proven(settings, sentence):
    """At twice the radius a test of finitely many votes accepts with probability alpha."""
    stage = random_model("m", "certified")
    (full,) = compose_records([stage, CORE], eps="0.12")
    (chain,) = compose_records([changed(stage, **settings), CORE], eps="0.12")
    found = chain.rates
    assert found.sound is None
    assert re.search(sentence, found.lacking)
    # The other numbers stay, and the paper's count never asked.
    assert (found.natural, found.paper) == (full.rates.natural, full.rates.paper)


def test_linear_bounds_prove_the_answer_and_not_that_it_is_given():
    stage = random_model("m", "bounds")
    linear = make_record(
        replace(stage.meta, method="crown"), {c: stage.frame[c] for c in stage.frame.columns}
    )
    (found,) = rates([linear, CORE], eps="0.12")
    assert found.sound is None
    assert "crown, whose bounds may be looser at a moved image" in found.lacking


def test_a_core_answers_with_the_network_and_not_with_its_smoothed_class():
    stage = random_model("m", "certified")
    votes = record("core", "certified", *np.ones((3, SAMPLES), dtype=bool), role="core")
    with pytest.raises(RecordError, match="judged as a smoothed classifier, but the core"):
        rates([stage, votes], eps="0.12")
    plain = replace_model(CORE, "core")
    assert rates([stage, votes, plain], eps="0.12") == rates([stage, plain], eps="0.12")


def test_attacks_on_a_stage_never_stand_in_for_its_certificates():
    both = [random_model("m", "certified"), random_model("m", "robust"), CORE]
    (attacked,) = rates(both, eps="0.12")
    (proven,) = rates(both, eps="0.12", kind="certified")
    assert (attacked.kind, proven.kind) == ("robust", "certified")
    assert (proven,) == tuple(rates(both[::2], eps="0.12"))
    assert (attacked,) == tuple(rates(both[1:], eps="0.12"))


def test_of_several_attacks_the_stronger_counts_whatever_the_order():
    accurate = RNG.random(SAMPLES) < 0.8
    reach = RNG.integers(0, 3, SAMPLES)
    weak = record("m", "robust", accurate, reach > 0, reach > 1)
    broken = RNG.random(SAMPLES) < 0.5
    strong = record("m", "robust", accurate, (reach > 0) & ~broken, (reach > 1) & ~broken)
    expected = rates([strong, CORE], eps="0.12")
    assert rates([weak, strong, CORE], eps="0.12") == expected
    assert rates([strong, weak, CORE], eps="0.12") == expected


def attacked(name, robust, *, attack="apgd-ce", ids=range(10), **meta):
    """Accurate everywhere, and robust at the first radius and the second where told."""
    columns = {"sample_id": [f"{i:02d}" for i in ids], "accurate": [True] * len(ids)}
    radii = ("0.12", "0.24")[: len(robust)]
    columns |= dict(zip((f"robust@{r}" for r in radii), robust, strict=True))
    given = {"norm": "l2", "tags": {"role": "robust"}}
    return make_record(RecordMeta(name, "d", attack, radii=radii, **(given | meta)), columns)


def unbroken(*broken, ids=range(10)):
    return [i not in broken for i in ids]


FRAGILE = attacked("core", [[False] * 10] * 2, tags={"role": "core"})


@pytest.mark.parametrize("first", [0, 1])
def test_what_any_of_several_attacks_broke_is_not_counted(first):
    one = attacked("m", [unbroken(0, 1)] * 2)
    others = [
        attacked("m", [unbroken(2)] * 2, attack="square"),
        # Within the first radius only; of some of the images only.
        attacked("m", [unbroken(3)], attack="apgd-dlr"),
        attacked("m", [[False] * 2] * 2, attack="square", ids=(4, 5), seed=1),
    ]
    for extra, robust in zip(others, (7, 7, 6), strict=True):
        both = [one, extra]
        (composed,) = rates([both[first], both[1 - first], FRAGILE], eps="0.12")
        assert (composed.name, composed.sound) == ("m → core", robust / 10)
    (composed,) = rates([*others, FRAGILE, one], eps="0.12")
    assert composed.sound == pytest.approx(0.4)
    # Natural accuracy is that of the selector that these attacks make: six inputs are the core's.
    assert composed.core_share == pytest.approx(0.6)


def test_an_attack_on_the_core_counts_at_the_core():
    stage = attacked("m", [[False] * 10] * 2)
    cores = [
        attacked("core", [unbroken(0)], tags={"role": "core"}),
        attacked("core", [unbroken(1)], attack="square", tags={"role": "core"}),
    ]
    (composed,) = rates([*cores, stage], eps="0.12")
    assert (composed.name, composed.sound) == ("m → core", 0.8)


@pytest.mark.parametrize("change", [{"norm": "linf"}, {"settings": {"data": "other"}}])
def test_an_attack_in_another_norm_or_on_other_data_breaks_nothing_here(change):
    mine = attacked("m", [unbroken(0, 1)] * 2, settings={"data": "d"})
    other = attacked("m", [unbroken(2)] * 2, **change)
    (composed,) = rates([mine, other, FRAGILE], eps="0.12")
    assert composed.sound == 0.8


def test_two_networks_of_one_name_are_told_apart():
    good = attacked("m", [unbroken()] * 2, weights="a" * 64)
    bad = attacked("m", [[False] * 10] * 2, weights="b" * 64)
    found = rates([bad, good, FRAGILE], eps="0.12")
    assert {c.name: c.sound for c in found} == {"m (aaaaaaaa) → core": 1, "m (bbbbbbbb) → core": 0}
    (only,) = rates([bad, good, FRAGILE], eps="0.12", stages=["m (aaaaaaaa)"])
    assert only.sound == 1
    with pytest.raises(RecordError, match=r"no record of model 'm'; there are: m \(bbbbbbbb\)"):
        rates([bad, good, FRAGILE], eps="0.12", stages=["m"])
    cores = [attacked("c", [unbroken()], weights=w, tags={"role": "core"}) for w in ("a", "b")]
    with pytest.raises(RecordError, match="2 models have the role core"):
        rates([good, *cores], eps="0.12")


def test_of_several_certificates_the_one_that_proves_most_counts():
    accurate, none = np.ones(SAMPLES, dtype=bool), np.zeros(SAMPLES, dtype=bool)
    loose = record("m", "certified", accurate, none, none)
    tight = record("m", "certified", accurate, accurate, accurate)
    for order in ([loose, tight, CORE], [tight, loose, CORE]):
        (composed,) = rates(order, eps="0.12")
        assert composed.sound == 1.0


def test_certificates_without_the_doubled_radius_are_refused():
    single = record("m", "certified", *np.ones((3, SAMPLES), dtype=bool), radii=("0.12",))
    with pytest.raises(RecordError, match=r"certified@0\.24.*certified: 0\.12"):
        rates([single, CORE], eps="0.12")
    with pytest.raises(RecordError, match=r"certified@0\.2'.*certified: 0\.12, 0\.24"):
        rates([random_model("m", "certified"), CORE], eps="0.2")


def test_a_log_of_radii_alone_proves_every_radius_within():
    columns = {
        "sample_id": ["a", "b", "c", "d", "e"],
        "prediction": [0, 0, None, 0, 0],
        "accurate": [True, True, False, True, True],
        "radius": [0.13, 0.3, 0.9, 0.12, 0.11],
    }
    log = verdicts(make_record(RecordMeta("m", "d", "smoothing", "l2"), columns))
    stage = stage_of(log, "0.12", "certified", doubled=True)
    # No answer is no certificate; 0.12 in single precision is below 0.12, and still itself.
    assert stage.selects.tolist() == [True, True, False, True, False]
    assert stage.surely_selects.tolist() == [False, True, False, False, False]
    # How many votes a deployed stage would draw, the log does not say.
    assert not stage_of(log, "0.12", "certified").surely_selects.any()


def test_a_radius_that_was_not_asked_is_not_one_that_failed():
    columns = {
        "sample_id": ["a", "b"],
        "prediction": [0, 0],
        "accurate": [True, True],
        "certified@0.12": [True, True],
        "radius": [0.12, 0.12],
    }
    asked = verdicts(make_record(RecordMeta("m", "d", "smoothing", "l2", ("0.12",)), columns))
    assert asked.certified("0.12").all()
    for ask in (asked.certified, partial(asked.stable, "certified")):
        with pytest.raises(RecordError, match=r"certified@0\.24'; certified: 0\.12"):
            ask("0.24")


def test_records_of_one_network_make_no_composition():
    core = attacked("core", [unbroken()] * 2, tags={"role": "core"}, weights="a" * 64)
    again = attacked("m", [unbroken()] * 2, weights="a" * 64)
    with pytest.raises(RecordError, match="there is none: m has the core's weights; add"):
        rates([core, again], eps="0.12")
    with pytest.raises(RecordError, match="there is none; add the run folder of a robust model"):
        rates([core], eps="0.12")
    (composed,) = rates([core, again, attacked("n", [unbroken()] * 2)], eps="0.12")
    assert composed.name == "n → core"
    for name in ("core", "m"):
        with pytest.raises(RecordError, match=f"'{name}' is the core 'core' itself; name another"):
            rates([core, again, attacked("n", [unbroken()] * 2)], eps="0.12", stages=("n", name))
