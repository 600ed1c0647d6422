"""An attack that could not search says so: no input is called robust for want of a gradient."""

import pytest
import torch
from torch import nn

from recuse.attacks import (
    Apgd,
    Dlr,
    Ensemble,
    Pgd,
    Screened,
    Square,
    StreamSettings,
    TargetedDlr,
    decide_stream,
)
from recuse.errors import ConfigError, DataError
from recuse.threat import Threat

from .conftest import make_noise

LINF = Threat("linf", "16/255")
SEARCHES = {
    "pgd": Pgd(steps=3),
    "apgd": Apgd(steps=3),
    "apgd l2": Apgd(steps=3),
    "ensemble": Ensemble((Apgd(steps=3), Square(10))),
}


class Rootless(nn.Module):
    """The same function plus the root of 0, whose slope is no number."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        length = (x - x.detach()).square().flatten(1).sum(1, keepdim=True).sqrt()
        return self.inner(x) + length


@pytest.mark.parametrize("name", SEARCHES)
def test_a_gradient_that_is_no_number_is_an_error(name, conv, photos):
    threat = Threat("l2", 0.5) if name.endswith("l2") else LINF
    model, y = Rootless(conv).eval(), conv(photos).argmax(1)
    attack, noise = SEARCHES[name], make_noise(24)
    assert torch.equal(model(photos), conv(photos))
    found = attack(conv, photos, y, threat, noise=noise)
    assert 0 < int(found.success.sum()) < 24
    with pytest.raises(DataError, match=r"NaN or infinite at \d+ of 24 inputs") as error:
        attack(model, photos, y, threat, noise=noise)
    assert "\n" not in str(error.value)


def test_the_highest_value_is_refused_too(conv, photos):
    y = conv(photos).argmax(1)
    with pytest.raises(DataError, match="NaN or infinite at 24 of 24 inputs"):
        Apgd(steps=3).maximise(Rootless(conv).eval(), photos, y, LINF, noise=make_noise(24))


def test_inputs_that_break_all_the_same_need_no_gradient(conv, photos):
    y = (conv(photos).argmax(1) + 1) % 10
    outcome = Apgd(steps=3)(Rootless(conv).eval(), photos, y, LINF, noise=make_noise(24))
    assert outcome.success.all()


def test_an_attack_without_gradients_still_works(conv, photos):
    model, y = Rootless(conv).eval(), conv(photos).argmax(1)
    found = Square(30)(model, photos, y, LINF, noise=make_noise(24))
    expected = Square(30)(conv, photos, y, LINF, noise=make_noise(24))
    assert torch.equal(found.success, expected.success)


@pytest.mark.parametrize("same", [False, True])
def test_a_copy_without_gradients_stops_nothing_and_decides_nothing(conv, photos, same):
    y, rootless = conv(photos).argmax(1), Rootless(conv).eval()
    full = Apgd(steps=5)(conv, photos, y, LINF, noise=make_noise(24))
    screened = Screened(Apgd(steps=5), rootless, Apgd(steps=2), same_function=same)
    found = screened(conv, photos, y, LINF, noise=make_noise(24))
    assert 0 < int(full.success.sum()) < 24
    assert torch.equal(found.success, full.success)
    # Where the model has no gradient either, the full search says so.
    with pytest.raises(DataError, match="NaN or infinite"):
        screened(rootless, photos, y, LINF, noise=make_noise(24))


def stream(model, photos, attack, threat=LINF):
    pairs = zip(make_noise(len(photos)).ids, photos, strict=True)
    settings = StreamSettings(slots=8, refill=4)
    return list(decide_stream(model, pairs, threat, attack=attack, settings=settings))


@pytest.mark.parametrize("threat", [LINF, Threat("l2", 0.5)])
def test_a_stream_decides_nothing_without_a_gradient(conv, photos, threat):
    # In L2 the points are NaN after a step, and so are their logits: no other answer than 0.
    others = photos[conv(photos).argmax(1) != 0]
    assert len(others) > 0
    with pytest.raises(DataError, match="NaN or infinite"):
        stream(Rootless(conv).eval(), others, Apgd(steps=3), threat)


def test_a_stream_has_no_targets(conv, photos):
    with pytest.raises(ConfigError, match="targeted loss chooses once per input"):
        stream(conv, photos, Apgd(steps=3, loss=TargetedDlr()))
    assert len(stream(conv, photos, Apgd(steps=3, loss=Dlr()))) == 24


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_images_in_half_precision_are_refused(conv, photos, dtype):
    y, half = conv(photos).argmax(1), photos.to(dtype)
    for attack in (*SEARCHES.values(), Square(5)):
        with pytest.raises(ConfigError, match="keep images and weights in float32"):
            attack(conv, half, y, LINF, noise=make_noise(24))
    with pytest.raises(ConfigError, match="keep images and weights in float32"):
        Apgd(steps=2).maximise(conv, half, y, LINF, noise=make_noise(24))
    with pytest.raises(ConfigError, match="keep images and weights in float32"):
        stream(conv, half, Apgd(steps=2))
