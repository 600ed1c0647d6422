"""Schedules, ramps, averages and batches by their closed forms."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from recuse.data.split import Split
from recuse.errors import ConfigError
from recuse.training.averaging import Averager, Ema, NoAverage, Swa
from recuse.training.batches import Batches, shuffled
from recuse.training.processes import Processes
from recuse.training.schedule import SCHEDULES, Constant, Cosine, OneDrop, Ramp, Step


def test_published_schedules():
    assert [OneDrop()(p) for p in (0.0, 0.74, 0.75, 1.0)] == [1, 1, 0.1, 0.1]
    assert [Step()(p) for p in (0.0, 0.75, 0.89)] == [1, 0.1, 0.1]
    assert Step()(0.9) == pytest.approx(0.01)
    assert Constant()(0.3) == 1
    assert Cosine()(0.0) == 1
    assert Cosine()(0.5) == pytest.approx(0.5)
    assert Cosine(floor=0.1)(1.0) == pytest.approx(0.1)
    assert Cosine(warmup=0.2)(0.1) == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", [kind() for kind in SCHEDULES.values()])
@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_rates_never_rise_without_warmup(schedule, a, b):
    low, high = sorted((a, b))
    assert 0 <= schedule(high) <= schedule(low) <= 1


@given(progress=st.floats(0, 1), start=st.floats(0, 1), end=st.floats(0, 1))
def test_ramp_is_linear_between_its_ends(progress, start, end):
    start, end = sorted((start, end))
    weight = Ramp(start, end)(progress)
    assert 0 <= weight <= 1
    if progress < start:
        assert weight == 0
    if progress >= end:
        assert weight == 1


def test_a_ramp_that_falls_is_refused():
    with pytest.raises(ConfigError, match="ascend"):
        Ramp(0.5, 0.2)


def one_weight(value):
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(value)
    return layer


def test_ema_is_its_recursion_and_resumes():
    layer = one_weight(0.0)
    rule = Ema(0.5)
    averager, expected = Averager(rule, layer), 0.0
    for step, value in enumerate([1.0, 2.0, -3.0, 4.0]):
        with torch.no_grad():
            layer.weight.fill_(value)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        averager.update(layer, step / 4, epoch_end=False)
        other = Averager(rule, one_weight(99.0))
        other.load_state_dict(averager.state_dict())
        averager = other
    assert averager.averaged(layer)["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_swa_and_no_average():
    layer = one_weight(0.0)
    swa, none = Averager(Swa(0.5), layer), Averager(NoAverage(), layer)
    for step in range(1, 9):
        with torch.no_grad():
            layer.weight.fill_(float(step))
        for averager in (swa, none):
            averager.update(layer, step / 8, epoch_end=step % 2 == 0)
    assert swa.averaged(layer)["weight"].item() == pytest.approx((4 + 6 + 8) / 3)
    assert none.averaged(layer)["weight"].item() == 8


def split(n, name="own"):
    images = torch.rand(n, 1, 2, 2)
    return Split(
        name,
        images,
        torch.zeros(n, dtype=torch.int64),
        tuple(f"{name}/{i}" for i in range(n)),
        ("a", "b"),
    )


@given(n=st.integers(1, 40), size=st.integers(1, 12), epoch=st.integers(0, 3))
def test_an_epoch_visits_each_sample_once(n, size, epoch):
    batches = Batches(split(n), size, seed=0)
    seen = [i for batch in batches.epoch(epoch) for i in batch.ids]
    assert sorted(seen) == sorted(split(n).ids)
    assert len(batches) == len(list(batches.epoch(epoch)))
    assert [b.ids for b in batches.epoch(epoch, start=1)] == [b.ids for b in batches.epoch(epoch)][
        1:
    ]


def test_orders_differ_between_epochs_and_seeds():
    ids = split(30).ids
    orders = [shuffled(ids, seed=s, epoch=e) for s in (0, 1) for e in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_each_batch_holds_its_share_of_extra_data():
    batches = Batches(split(20), 8, seed=0, extra=split(7, "extra"), share=0.25)
    found = list(batches.epoch(0))
    assert [sum(i.startswith("extra") for i in b.ids) for b in found] == [2, 2, 2, 2]
    assert [len(b) for b in found] == [8, 8, 8, 4]
    drawn = [i for b in found for i in b.ids if i.startswith("extra")]
    assert len(set(drawn)) == 7


@pytest.mark.parametrize("parts", [1, 3, 4, 20])
@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_shares_of_all_processes_are_the_batch(count, parts):
    batches = Batches(split(11), 8, seed=0, extra=split(5, "extra"), share=0.25)
    peers = [Processes(index=i, count=count) for i in range(count)]
    dealt = zip(*(batches.epoch(0, deal=p.deal(parts)) for p in peers), strict=True)
    for whole, own in zip(batches.epoch(0), dealt, strict=True):
        shares = [list(p.shares(b, parts)) for p, b in zip(peers, own, strict=True)]
        found = []
        for part in zip(*shares, strict=True):
            counted = [share.batch for share in part if share.counts]
            assert max(map(len, counted)) - min(map(len, counted)) <= (len(counted) == count)
            # Those without a row of their own compute one along.
            assert {len(share.batch) for share in part if not share.counts} <= {1}
            images = torch.cat([batch.images for batch in counted])
            ids = sum((batch.ids for batch in counted), ())
            found += sorted(zip(ids, images, strict=True), key=lambda row: whole.ids.index(row[0]))
        assert tuple(i for i, _ in found) == whole.ids
        assert torch.equal(torch.stack([image for _, image in found]), whole.images)
        assert {batch.whole for batch in own} == {len(whole)}


def test_no_room_for_labelled_data_is_refused():
    with pytest.raises(ConfigError, match="no room"):
        Batches(split(4), 1, seed=0, extra=split(4, "extra"), share=0.9)


def test_extra_images_of_another_shape_are_refused():
    other = split(4, "extra")
    wide = replace(other, images=torch.zeros(4, 1, 4, 4))
    with pytest.raises(ConfigError, match="cannot be mixed"):
        Batches(split(4), 4, seed=0, extra=wide, share=0.5)
