"""The stream decides as the batch attack does, in the same passes, whatever its slots."""

import pytest
import torch

from recuse.attacks import Apgd, Decision, StreamSettings, decide_stream
from recuse.errors import ConfigError
from recuse.threat import Threat

from .conftest import make_noise

LINF = Threat("linf", "12/255")


def decide(conv, photos, settings, attack):
    ids = make_noise(len(photos)).ids
    stream = zip(ids, photos, strict=True)
    decided = list(decide_stream(conv, stream, LINF, attack=attack, settings=settings))
    assert sorted(d.sample_id for d in decided) == sorted(ids)
    return {d.sample_id: d for d in decided}


@pytest.mark.parametrize("slots", [(1, 1), (5, 2), (16, 16), (64, 8)])
@pytest.mark.parametrize("steps", [1, 12])
def test_decisions_are_those_of_the_batch_attack(conv, photos, slots, steps):
    attack = Apgd(steps=steps)
    with torch.no_grad():
        y = conv(photos).argmax(1)
    noise = make_noise(24, stream="indicator")
    batch = attack(conv, photos, y, LINF, noise=noise)
    decided = decide(conv, photos, StreamSettings(*slots), attack)
    assert 0 < int(batch.success.sum()) < 24
    for row, sample_id in enumerate(noise.ids):
        verify = int(batch.success[row])  # the batch attack verifies what it claims
        assert decided[sample_id] == Decision(
            sample_id,
            int(y[row]),
            not bool(batch.success[row]),
            int(batch.forwards[row]) - verify,
            int(batch.backwards[row]),
        )


def test_a_full_run_costs_at_most_82_passes(conv, photos):
    decided = decide(conv, photos, StreamSettings(slots=8, refill=4), Apgd())
    robust = [d for d in decided.values() if d.robust]
    assert robust
    assert all(d.forwards + d.backwards == 82 for d in robust)
    assert all(d.forwards + d.backwards < 82 for d in decided.values() if not d.robust)


def test_the_batch_is_kept_full(conv, photos):
    sizes = []
    handle = conv[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    try:
        decide(conv, photos.repeat(3, 1, 1, 1)[:60], StreamSettings(slots=8, refill=1), Apgd())
    finally:
        handle.remove()
    attacked = sizes[: len(sizes) // 2]  # before the stream runs dry
    assert sum(s >= 4 for s in attacked) > 0.4 * len(attacked)
    assert max(sizes) <= 16


def test_an_empty_stream_decides_nothing(conv, photos):
    settings = StreamSettings()
    assert list(decide_stream(conv, [], LINF, attack=Apgd(), settings=settings)) == []


def test_the_model_gets_its_mode_back(conv, photos):
    conv.train()
    try:
        before = conv[1].running_mean.clone()
        decide(conv, photos[:4], StreamSettings(slots=2, refill=1), Apgd(steps=2))
        assert conv.training
        assert torch.equal(conv[1].running_mean, before)
    finally:
        conv.eval()


def test_settings_that_cannot_run_are_refused(conv):
    with pytest.raises(ConfigError, match="refill"):
        StreamSettings(slots=4, refill=5)
    with pytest.raises(ConfigError, match="restarts=1"):
        next(decide_stream(conv, [], LINF, attack=Apgd(restarts=2), settings=StreamSettings()))
