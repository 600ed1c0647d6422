"""Auto-PGD against the official implementation, from equal starts."""

import copy

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack

from recuse.attacks import LOSSES, Apgd, Confidence, ConfidentlyWrong, Pgd
from recuse.attacks.active import Compaction, at_powers_of_two, every_step, exact_size, padded_size
from recuse.attacks.trajectories import checkpoints
from recuse.data.cifar import Cifar10
from recuse.models.zoo import load_model
from recuse.threat import Threat

from .conftest import Scaled, make_noise

NORMS = {"linf": "Linf", "l2": "L2"}


def official_start(x, threat):
    """The start the official code draws from its seed 0."""
    if threat.norm == "linf":
        t = 2 * torch.rand(x.shape) - 1
        length = t.abs().flatten(1).amax(1)
    else:
        t = torch.randn(x.shape)
        length = t.flatten(1).norm(dim=1)
    return (x + threat.eps * t / (length.view(-1, 1, 1, 1) + 1e-12)).clamp(0, 1)


def both(model, x, y, threat, loss, steps=40):
    """Broken sets of the official attack and of ours, from the same start."""
    anchor = APGDAttack(
        model, n_iter=steps, norm=NORMS[threat.norm], eps=threat.eps, seed=0, loss=loss
    )
    with torch.random.fork_rng():
        official = anchor.perturb(x, y)
        torch.manual_seed(0)
        start = official_start(x, threat)
    with torch.no_grad():
        broken = model(official).argmax(1) != y
    ours = Apgd(steps=steps, loss=LOSSES[loss]())(
        model, x, y, threat, noise=make_noise(len(x)), start=start
    )
    return broken, ours


@pytest.mark.parametrize("steps", [1, 3, 10, 40, 100])
def test_checkpoints_are_those_of_the_official_loop(steps):
    first, shortest = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1)
    shrink, window, since, found = max(int(0.03 * steps), 1), first, 0, []
    for step in range(1, steps + 1):
        since += 1
        if since == window:
            found.append(step)
            window, since = max(window - shrink, shortest), 0
    assert checkpoints(steps) == tuple(found)


SMALL_BALLS = ["linf:6/255", "linf:12/255", "l2:0.2", "l2:0.4"]


def small_case(conv, scale):
    """The small network in float32 with logits of another size, and images for it."""
    model = Scaled(copy.deepcopy(conv).float(), scale).eval()
    x = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return model, x, model(x).argmax(1)


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("text", SMALL_BALLS)
def test_verdicts_of_the_official_code_on_a_small_network(conv, loss, text):
    # Untrained, its logits differ by hundredths; this gives them the size of a trained network's.
    model, x, y = small_case(conv, 30.0)
    official, ours = both(model, x, y, Threat.parse(text), loss)
    assert 2 < int(official.sum()) < 62  # both kinds occur
    assert torch.equal(ours.success, official)


@pytest.mark.parametrize("text", SMALL_BALLS)
def test_logits_too_small_for_cross_entropy_hide_nothing_that_the_official_code_finds(conv, text):
    official, ours = both(*small_case(conv, 1.0), Threat.parse(text), "ce")
    assert (ours.success | ~official).all()
    assert int(ours.success.sum()) >= int(official.sum()) + 5


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("text", ["linf:2/255", "l2:0.25"])
def test_verdicts_of_the_official_code_on_a_robust_network(shared_data, shared_models, loss, text):
    model = load_model("cifar10_resnet4b_adv2", data_root=shared_data)[0].eval()
    x = Cifar10().load_test(shared_data).head(128).images
    y = model(x).argmax(1)
    official, ours = both(model, x, y, Threat.parse(text), loss)
    assert 0.1 < float(official.float().mean()) < 0.9
    assert float((ours.success == official).float().mean()) >= 0.99
    assert int(ours.success.sum()) >= int(official.sum()) - 0.005 * len(x)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["linf:1/255", "l2:0.1"])
def test_verdicts_of_the_official_code_on_a_standard_network(shared_data, shared_models, text):
    # twenty layers of the same family as the larger core, to keep the official run short
    model = load_model("cifar10_resnet20_std", data_root=shared_data)[0].eval()
    x = Cifar10().load_test(shared_data).head(24).images
    y = model(x).argmax(1)
    official, ours = both(model, x, y, Threat.parse(text), "ce")
    assert 0.1 < float(official.float().mean()) < 1.0
    assert torch.equal(ours.success, official)


def test_robust_inputs_take_81_passes_and_one_clean(conv, photos):
    y = conv(photos).argmax(1)
    outcome = Apgd()(conv, photos, y, Threat("linf", "12/255"), noise=make_noise(24))
    left = ~outcome.success
    assert left.any()
    assert (outcome.forwards[left] == 42).all()
    assert (outcome.backwards[left] == 40).all()
    assert (outcome.backwards[outcome.success] <= 40).all()


@pytest.mark.parametrize("attack", [Pgd(steps=12), Apgd(steps=12, restarts=2)])
def test_padded_rare_compaction_changes_no_verdict(conv, photos, monkeypatch, attack):
    y, threat = conv(photos).argmax(1), Threat("linf", "12/255")
    exact = attack(conv, photos, y, threat, noise=make_noise(24))
    policy = Compaction(at_powers_of_two, padded_size)
    monkeypatch.setattr(Compaction, "suited_to", classmethod(lambda cls, device: policy))
    padded = attack(conv, photos, y, threat, noise=make_noise(24))
    assert 0 < int(exact.success.sum()) < 24
    assert torch.equal(padded.success, exact.success)
    torch.testing.assert_close(padded.x_adv, exact.x_adv, rtol=1e-9, atol=1e-9)
    assert (padded.forwards >= exact.forwards).all()


def test_compaction_suits_the_device():
    assert Compaction.suited_to(torch.device("cpu")) == Compaction(every_step, exact_size)
    assert Compaction.suited_to(torch.device("cuda")) == Compaction(at_powers_of_two, padded_size)


def test_maximum_confidence_answers_every_threshold(conv, photos):
    y, threat = conv(photos).argmax(1), Threat("linf", "16/255")
    attack = Apgd(loss=Confidence())
    worst = attack.maximise(conv, photos, y, threat, noise=make_noise(24))
    assert threat.contains(worst.x_adv, photos).all()
    torch.testing.assert_close(worst.value, Confidence()(conv(worst.x_adv), y).detach())
    clean = Confidence()(conv(photos), y)
    assert (worst.value >= clean - 1e-12).all()
    # a fixed threshold with early exit finds no more than the maximum promises
    for tau in (0.2, 0.3, 0.5):
        fixed = attack(
            conv, photos, y, threat, noise=make_noise(24), criterion=ConfidentlyWrong(tau)
        )
        assert (worst.value[fixed.success] >= tau - 1e-9).all()


def test_more_restarts_only_break_more(conv, photos):
    y, threat = conv(photos).argmax(1), Threat("linf", "12/255")
    one = Apgd(steps=5)(conv, photos, y, threat, noise=make_noise(24))
    four = Apgd(steps=5, restarts=4)(conv, photos, y, threat, noise=make_noise(24))
    assert (four.success >= one.success).all()
    assert torch.equal(four.x_adv[one.success], one.x_adv[one.success])
    best_one = Apgd(steps=5).maximise(conv, photos, y, threat, noise=make_noise(24))
    best_four = Apgd(steps=5, restarts=4).maximise(conv, photos, y, threat, noise=make_noise(24))
    assert (best_four.value >= best_one.value - 1e-12).all()


def test_start_is_respected_and_projected(conv, photos):
    y, threat = conv(photos).argmax(1), Threat("linf", "4/255")
    far = (photos + 0.3).clamp(0, 1)
    outcome = Apgd(steps=3)(conv, photos, y, threat, noise=make_noise(24), start=far)
    assert threat.contains(outcome.x_adv, photos).all()
    again = Apgd(steps=3)(
        conv, photos, y, threat, noise=make_noise(24, seed=9), start=threat.project(far, photos)
    )
    assert torch.equal(outcome.x_adv, again.x_adv)
