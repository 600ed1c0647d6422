"""What every attack owes its caller, one row per attack."""

import copy

import pytest
import torch
from torch import nn

import recuse.attacks as attacks
from recuse.attacks import (
    ATTACKS,
    CRITERIA,
    LOSSES,
    Apgd,
    Confidence,
    ConfidentlyWrong,
    Ensemble,
    LabelChanged,
    Pgd,
    Rejected,
    Screened,
    Square,
    WrongAndSelected,
    standard_ensemble,
    verify,
)
from recuse.errors import ConfigError
from recuse.protocols import AscentLoss, Attack, Criterion
from recuse.threat import Threat

from .conftest import make_noise

LINF = Threat("linf", "16/255")
STRATEGIES = {
    "pgd": Pgd(steps=5, restarts=2),
    "apgd": Apgd(steps=8, restarts=2),
    "apgd-confidence": Apgd(steps=8, loss=Confidence()),
    "square": Square(20),
    "ensemble": Ensemble((Pgd(steps=3), Apgd(steps=5), Square(10))),
    "standard": standard_ensemble(10, steps=3, queries=5),
}


def all_attacks(model):
    return STRATEGIES | {"screened": Screened(Apgd(steps=6), model, Apgd(steps=3))}


@pytest.fixture(params=[*STRATEGIES, "screened"])
def attack(request, conv):
    return all_attacks(conv)[request.param]


def test_tables_hold_exactly_the_public_classes():
    public = [getattr(attacks, name) for name in attacks.__all__]
    classes = {c for c in public if isinstance(c, type)}
    listed = {*ATTACKS.values(), *LOSSES.values(), *CRITERIA.values()}
    held = {attacks.Screened, attacks.MaskingCheck}  # hold a network; compare attacks
    held |= {attacks.Margins, attacks.ProbabilityMargin}  # the worst of all classes, and its loss
    assert {c for c in classes if "__call__" in vars(c)} == listed | held
    assert all(isinstance(loss(), AscentLoss) for loss in LOSSES.values())
    assert isinstance(LabelChanged(), Criterion)
    assert all(isinstance(a, Attack) for a in STRATEGIES.values())


def test_strategies_are_values():
    assert Apgd(loss=Confidence()) == Apgd(loss=Confidence())
    assert hash(Pgd()) == hash(Pgd(steps=10))
    assert "steps=40" in repr(Apgd())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_outcome_is_inside_and_true(attack, conv, photos, norm):
    threat = Threat(norm, {"linf": "12/255", "l2": 0.4}[norm])
    y = conv(photos).argmax(1)
    outcome = attack(conv, photos, y, threat, noise=make_noise(len(photos)))
    assert 0 < int(outcome.success.sum()) < len(photos)  # a set on which the test can fail
    assert threat.contains(outcome.x_adv, photos).all()
    assert (conv(outcome.x_adv).argmax(1)[outcome.success] != y[outcome.success]).all()
    assert (outcome.forwards > 0).all()


def test_zero_radius_changes_nothing(attack, conv, photos):
    y = conv(photos).argmax(1)
    for norm in ("linf", "l2"):
        outcome = attack(conv, photos, y, Threat(norm, 0.0), noise=make_noise(len(photos)))
        torch.testing.assert_close(outcome.x_adv, photos, rtol=0, atol=0)
        assert not outcome.success.any()


def test_results_do_not_depend_on_the_batch(attack, conv, photos):
    y, noise = conv(photos).argmax(1), make_noise(len(photos))
    whole = attack(conv, photos, y, LINF, noise=noise)
    for size in (1, 7):
        for begin in range(0, len(photos), size):
            rows = slice(begin, min(begin + size, len(photos)))
            part = attack(
                conv, photos[rows], y[rows], LINF, noise=noise.take(range(rows.start, rows.stop))
            )
            torch.testing.assert_close(part.x_adv, whole.x_adv[rows], rtol=1e-9, atol=1e-9)
            assert torch.equal(part.success, whole.success[rows])
            assert torch.equal(part.forwards, whole.forwards[rows])


def test_model_and_global_randomness_are_left_as_found(attack, conv, photos):
    model = nn.Sequential(*copy.deepcopy(conv), nn.Dropout(0.5)).train()
    model[0].eval()
    model[3].weight.requires_grad_(False)
    model[0].weight.grad = torch.full_like(model[0].weight, 3.0)
    model[1].momentum = 0.5
    before = {k: v.clone() for k, v in model.state_dict().items()}
    random_state = torch.get_rng_state()
    y = conv(photos).argmax(1)
    attack(model, photos, y, LINF, noise=make_noise(len(photos)))
    assert not model[0].training
    assert all(part.training for part in model[1:])
    assert not model[3].weight.requires_grad
    assert model[0].weight.requires_grad
    assert (model[0].weight.grad == 3.0).all()
    assert all(p.grad is None for k, p in model.named_parameters() if k != "0.weight")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_what_is_adversarial_as_it_is_costs_one_pass(attack, conv, photos):
    y = (conv(photos).argmax(1) + 1) % 10
    outcome = attack(conv, photos, y, LINF, noise=make_noise(len(photos)))
    assert outcome.success.all()
    assert torch.equal(outcome.x_adv, photos)
    assert (outcome.backwards == 0).all()


def test_clean_logits_save_one_pass_and_change_nothing(attack, conv, photos):
    with torch.no_grad():
        logits = conv(photos)
    y, noise = logits.argmax(1), make_noise(len(photos))
    own = attack(conv, photos, y, LINF, noise=noise)
    shared = attack(conv, photos, y, LINF, noise=noise, clean_logits=logits)
    assert torch.equal(own.success, shared.success)
    assert torch.equal(own.x_adv, shared.x_adv)
    assert torch.equal(own.forwards - 1, shared.forwards)


def test_empty_batch(attack, conv, photos):
    outcome = attack(conv, photos[:0], torch.zeros(0, dtype=torch.int64), LINF, noise=make_noise(0))
    assert outcome.x_adv.shape == photos[:0].shape
    assert len(outcome.success) == len(outcome.forwards) == 0


def test_success_means_the_criterion_that_was_asked_for(attack, conv, photos):
    with torch.no_grad():
        y = conv(photos).argmax(1)
    sure = ConfidentlyWrong(0.3)
    outcome = attack(conv, photos, y, LINF, noise=make_noise(len(photos)), criterion=sure)
    with torch.no_grad():
        confidence, label = conv(outcome.x_adv).softmax(1).max(1)
    assert torch.equal(outcome.success, outcome.success & (confidence >= 0.3) & (label != y))
    easier = attack(conv, photos, y, LINF, noise=make_noise(len(photos)))
    assert outcome.success.sum() <= easier.success.sum()


def test_verification_catches_what_an_attack_only_claims(conv, photos):
    y = conv(photos).argmax(1)
    outside = (photos + 0.5).clamp(0, 1)
    broken = conv(outside).argmax(1) != y
    assert broken.any()
    assert not verify(conv, photos, outside, y, LINF, LabelChanged()).any()
    assert torch.equal(
        verify(conv, photos, outside, y, Threat("linf", 0.5), LabelChanged()), broken
    )


def test_criteria_follow_their_definitions():
    z = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.1]])
    x, y = torch.rand(3, 1, 2, 2), torch.tensor([0, 0, 0])
    assert LabelChanged()(x, z, y).tolist() == [False, True, True]
    assert ConfidentlyWrong(0.8)(x, z, y).tolist() == [False, True, False]
    accept_none = WrongAndSelected(lambda x_adv, logits: torch.zeros(3, dtype=torch.bool))
    assert not accept_none(x, z, y).any()
    above = lambda x_adv, logits: logits.amax(1) > 1  # noqa: E731
    assert WrongAndSelected(above)(x, z, y).tolist() == [False, True, False]
    assert Rejected(above)(x, z, y).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Apgd(steps=0), "step"),
        (lambda: Apgd(rho=1.0), "rho"),
        (lambda: Pgd(step_size_relative=0.0), "step size"),
        (lambda: Square(0), "query"),
        (lambda: Square(p_init=1.5), "p_init"),
        (lambda: Ensemble(()), "at least one"),
        (lambda: ConfidentlyWrong(1.2), "probability"),
        (lambda: attacks.TargetedDlr(0), "rank"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(make, word):
    with pytest.raises(ConfigError, match=word):
        make()


def test_square_says_what_to_do_with_points_of_the_plane():
    model = nn.Linear(2, 3).eval()
    x = torch.rand(4, 2)
    with pytest.raises(ConfigError, match="use apgd or pgd"):
        Square()(model, x, model(x).argmax(1), LINF, noise=make_noise(4))
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.1]]))
        model.bias.copy_(torch.tensor([-0.5, 0.5, 0.0]))
    outcome = Apgd()(model, x, model(x).argmax(1), Threat("linf", 1.0), noise=make_noise(4))
    assert outcome.success.all()
