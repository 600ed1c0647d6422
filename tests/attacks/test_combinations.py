"""Ensemble, screen and masking check: combinations whose verdict is the point-wise worst case."""

import pytest
import torch
from torch import nn

from recuse.attacks import (
    Apgd,
    Dlr,
    Ensemble,
    MaskingCheck,
    Pgd,
    Screened,
    Square,
    standard_ensemble,
)
from recuse.threat import Threat

from .conftest import make_noise

LINF = Threat("linf", "10/255")


def test_ensemble_is_the_union_of_its_members(conv, photos):
    y = conv(photos).argmax(1)
    members = (Pgd(steps=2), Apgd(steps=4, loss=Dlr()), Square(15))
    union = torch.zeros(24, dtype=torch.bool)
    passes = torch.ones(24, dtype=torch.int64)  # the clean pass, shared
    with torch.no_grad():
        logits = conv(photos)
    for number, member in enumerate(members):
        noise = make_noise(24).substream("member", number)
        alone = member(conv, photos, y, LINF, noise=noise, clean_logits=logits)
        passes += torch.where(union, 0, alone.forwards)
        union |= alone.success
    found = Ensemble(members)(conv, photos, y, LINF, noise=make_noise(24))
    assert 0 < int(union.sum()) < 24
    assert torch.equal(found.success, union)
    assert torch.equal(found.forwards, passes)


def test_standard_ensemble_aims_at_every_other_class_up_to_nine():
    ranks = {2: 1, 3: 2, 10: 9, 43: 9}
    for classes, targeted in ranks.items():
        assert len(standard_ensemble(classes).members) == 3 + targeted


def test_screened_set_contains_the_full_search(conv, photos):
    y = conv(photos).argmax(1)
    other = nn.Sequential(*conv[:-1], nn.Linear(8 * 16, 10).double()).eval()
    for screen in (conv, other):
        attack = Screened(Apgd(steps=10), screen, Apgd(steps=3))
        full = Apgd(steps=10)(conv, photos, y, LINF, noise=make_noise(24))
        screened = attack(conv, photos, y, LINF, noise=make_noise(24))
        assert 0 < int(full.success.sum()) < 24
        assert (screened.success | ~full.success).all()
        left = ~screened.success
        assert torch.equal(screened.x_adv[left], full.x_adv[left])


def test_a_copy_that_is_the_same_function_decides_and_its_false_claims_are_attacked(conv, photos):
    y = conv(photos).argmax(1)
    full = Apgd(steps=10)(conv, photos, y, LINF, noise=make_noise(24))
    same = Screened(Apgd(steps=10), conv, Apgd(steps=10), same_function=True)
    found = same(conv, photos, y, LINF, noise=make_noise(24))
    assert torch.equal(found.success, full.success)
    assert torch.equal(found.forwards, full.forwards + full.success)  # claims are looked at twice
    other = nn.Sequential(*conv[:-1], nn.Linear(8 * 16, 10).double()).eval()
    liar = Screened(Apgd(steps=10), other, Apgd(steps=1), same_function=True)
    denied = liar(conv, photos, y, LINF, noise=make_noise(24))
    # Every input that the other network would call broken got the whole search on the model.
    claimed = Apgd(steps=1)(other, photos, y, LINF, noise=make_noise(24)).success
    assert int(claimed.sum()) > 0
    assert torch.equal(denied.success[claimed], full.success[claimed])


def test_screen_in_bf16_never_decides(conv, photos):
    class Coarse(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = conv

        def forward(self, x):
            return self.inner(x).to(torch.bfloat16).double()  # ties and false breaks

    y = conv(photos).argmax(1)
    attack = Screened(Apgd(steps=5), Coarse().eval(), Apgd(steps=5))
    outcome = attack(conv, photos, y, LINF, noise=make_noise(24))
    assert torch.equal(conv(outcome.x_adv).argmax(1) != y, outcome.success)


class Masked(nn.Module):
    """The same classifier with inputs quantised: its gradient is zero, its boundary is not."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner((x * 32).round() / 32)


@pytest.fixture(scope="module")
def check():
    return MaskingCheck(few=Apgd(steps=3), black=Square(60))


def test_what_a_mask_hides_is_found_without_gradients(conv, photos, check):
    model = Masked(conv).eval()
    y = model(photos).argmax(1)
    found = check(model, photos, y, Threat("linf", "16/255"), noise=make_noise(24))
    assert found.black_box.any()
    assert torch.equal(found.broken, found.few_steps | found.black_box)
    assert not found.random.any()


def test_a_short_search_finds_what_a_long_one_was_led_away_from(conv, photos, check):
    y = conv(photos).argmax(1)
    found = check(conv, photos, y, LINF, noise=make_noise(24))
    short = Apgd(steps=3)(conv, photos, y, LINF, noise=make_noise(24).substream("few"))
    assert torch.equal(found.few_steps, short.success)
    assert found.few_steps.any()
    assert not found.random.any()
