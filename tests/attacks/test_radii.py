"""Several radii at once: monotone by construction, never weaker, never dearer than alone."""

import pytest
import torch

from recuse.attacks import Apgd, ConfidentlyWrong, attack_radii
from recuse.errors import ConfigError
from recuse.threat import Threat

from .conftest import make_noise

THREATS = tuple(Threat("linf", e) for e in ("4/255", "8/255", "12/255", "24/255"))


@pytest.fixture(scope="module")
def judged(conv, photos):
    y = conv(photos).argmax(1)
    return y, attack_radii(conv, photos, y, THREATS, Apgd(steps=10), noise=make_noise(24))


def test_verdicts_are_monotone_and_points_are_true(conv, photos, judged):
    y, found = judged
    counts = [int(b.sum()) for b in found.broken]
    assert counts[0] < counts[-1]
    assert 0 < counts[1] < 24
    for smaller, larger in zip(found.broken, found.broken[1:], strict=False):
        assert (larger | ~smaller).all()
    for threat, broken, x_adv in zip(THREATS, found.broken, found.x_adv, strict=True):
        assert threat.contains(x_adv, photos).all()
        assert torch.equal(conv(x_adv).argmax(1) != y, broken)


def test_no_verdict_is_weaker_than_that_radius_alone(conv, photos, judged):
    y, found = judged
    for threat, broken in zip(THREATS, found.broken, strict=True):
        alone = attack_radii(conv, photos, y, [threat], Apgd(steps=10), noise=make_noise(24))
        assert int(broken.sum()) >= int(alone.broken[0].sum())


def test_broken_inputs_are_not_attacked_again(conv, photos, judged):
    y, found = judged
    at_once = found.broken[0]
    assert at_once.any()
    alone = attack_radii(conv, photos, y, THREATS[:1], Apgd(steps=10), noise=make_noise(24))
    assert torch.equal(found.forwards[at_once], alone.forwards[at_once])
    assert torch.equal(found.x_adv[-1][at_once], found.x_adv[0][at_once])
    never = ~found.broken[-1]
    # one clean pass for all radii, then 11 forward and 10 backward passes at each
    assert (found.forwards[never] == 1 + 4 * 11).all()
    assert (found.backwards[never] == 4 * 10).all()


def test_given_clean_logits_cost_nothing(conv, photos, judged):
    y, found = judged
    with torch.no_grad():
        logits = conv(photos)
    shared = attack_radii(
        conv, photos, y, THREATS, Apgd(steps=10), noise=make_noise(24), clean_logits=logits
    )
    assert torch.equal(shared.forwards + 1, found.forwards)
    assert all(torch.equal(a, b) for a, b in zip(shared.broken, found.broken, strict=True))


def test_criterion_reaches_every_radius(conv, photos):
    y = conv(photos).argmax(1)
    sure = attack_radii(
        conv,
        photos,
        y,
        THREATS,
        Apgd(steps=10),
        noise=make_noise(24),
        criterion=ConfidentlyWrong(0.4),
    )
    confidence = conv(sure.x_adv[-1]).softmax(1).amax(1)
    assert (confidence[sure.broken[-1]] >= 0.4).all()


@pytest.mark.parametrize(
    "threats",
    [
        [],
        [Threat("linf", 0.2), Threat("linf", 0.1)],
        [Threat("linf", 0.1), Threat("linf", 0.1)],
        [Threat("linf", 0.1), Threat("l2", 0.2)],
    ],
)
def test_radii_that_do_not_ascend_are_refused(conv, photos, threats):
    y = conv(photos).argmax(1)
    with pytest.raises(ConfigError, match="radi"):
        attack_radii(conv, photos, y, threats, Apgd(), noise=make_noise(24))
