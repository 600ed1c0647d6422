"""Ascent losses: definitions written out, an independent implementation, few classes."""

import numpy as np
import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

from recuse.attacks import LOSSES, Confidence, CrossEntropy, Dlr, Margin, TargetedDlr
from recuse.attacks.binding import bind


@pytest.fixture(scope="module")
def logits():
    return torch.randn(40, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3


@pytest.fixture(scope="module")
def y():
    return torch.randint(0, 10, (40,), generator=torch.Generator().manual_seed(1))


def test_dlr_is_that_of_the_official_code(logits, y):
    official = APGDAttack(None, eps=0.1, device="cpu").dlr_loss(logits, y)
    torch.testing.assert_close(Dlr()(logits, y), official)


@pytest.mark.parametrize("rank", [1, 2, 9])
def test_targeted_dlr_is_that_of_the_official_code(logits, y, rank):
    anchor = APGDAttack_targeted(None, eps=0.1, device="cpu")
    loss = TargetedDlr(rank)
    anchor.y_target = loss.targets(logits, y)
    official = anchor.dlr_loss_targeted(logits, y)
    torch.testing.assert_close(loss.towards(logits, y, anchor.y_target), official)


def test_targets_are_the_other_classes_in_order_of_likelihood(logits, y):
    targets = torch.stack([TargetedDlr(r).targets(logits, y) for r in range(1, 10)], dim=1)
    for row, label, order in zip(logits.numpy(), y.tolist(), targets.tolist(), strict=True):
        expected = [int(c) for c in np.argsort(-row) if c != label]
        assert order == expected
    assert torch.equal(TargetedDlr(50).targets(logits, y), targets[:, -1])


def test_margin_confidence_and_cross_entropy_by_definition(logits, y):
    z, p = logits.numpy(), torch.softmax(logits, 1).numpy()
    for i, label in enumerate(y.tolist()):
        others = [c for c in range(10) if c != label]
        assert Margin()(logits, y)[i] == pytest.approx(z[i, others].max() - z[i, label])
        assert Confidence()(logits, y)[i] == pytest.approx(p[i, others].max())
        assert CrossEntropy()(logits, y)[i] == pytest.approx(-np.log(p[i, label]))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_gradients_are_finite_differences_for_any_number_of_classes(name, classes):
    z = torch.randn(6, classes, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    label = torch.arange(6) % classes
    loss = LOSSES[name]()
    assert torch.isfinite(loss(z, label)).all()
    assert torch.autograd.gradcheck(lambda v: loss(v, label), z.requires_grad_())


def test_few_classes_fall_back_to_the_margin():
    z = torch.tensor([[1.0, 3.0], [2.0, 0.5]])
    label = torch.tensor([0, 0])
    torch.testing.assert_close(Dlr()(z, label), Margin()(z, label))
    three = torch.tensor([[1.0, 3.0, 0.0]])
    target = TargetedDlr(2).targets(three, torch.tensor([1]))
    assert target.tolist() == [2]
    assert TargetedDlr(2).towards(three, torch.tensor([1]), target).item() == -3.0


def test_dlr_ignores_shift_and_scale(logits, y):
    torch.testing.assert_close(Dlr()(logits * 100 + 7, y), Dlr()(logits, y))


def test_every_loss_is_higher_where_the_label_is_wrong():
    z = torch.tensor([[5.0, 1.0, 0.5, 0.0], [1.0, 5.0, 0.5, 0.0]])
    label = torch.tensor([0, 0])
    for name, loss in LOSSES.items():
        right, wrong = loss()(z, label).tolist()
        assert wrong > right, name


def test_bound_targets_stay_those_of_the_clean_input(logits, y):
    value = bind(TargetedDlr(2), logits, y)
    rows = torch.tensor([3, 5, 11])
    moved = logits[rows].flip(1)
    expected = TargetedDlr(2).towards(moved, y[rows], TargetedDlr(2).targets(logits, y)[rows])
    torch.testing.assert_close(value(moved, rows), expected)
