"""Losses equal the values that the authors' original code produced, to 1e-10 in float64."""

import numpy as np
import pytest
import torch

from recuse.losses import cross_entropy, dga_penalty, era_penalty, kl_regularizer, trades

CLASSES = 10


@pytest.fixture(scope="module")
def goldens(shared_reference):
    with np.load(shared_reference / "loss_goldens.npz") as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


@pytest.fixture(scope="module")
def batch(goldens):
    return goldens["nat_logits"], goldens["adv_logits"], goldens["targets"]


def assert_near(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_era_penalty_soft_and_hard(goldens, batch):
    assert_near(era_penalty(*batch), goldens["era_penalty_soft"])
    assert_near(era_penalty(*batch, hard=True), goldens["era_penalty_hard"])
    assert 0 < int((goldens["era_penalty_hard"] > 0).sum()) < len(batch[2])


def test_detaching_the_weight_changes_gradients_only(goldens, batch):
    logits, logits_adv, y = batch
    assert_near(era_penalty(*batch, detach=True), goldens["era_penalty_soft"])
    leaf = logits.clone().requires_grad_()
    assert not era_penalty(leaf, logits_adv, y, detach=True).requires_grad
    assert era_penalty(leaf, logits_adv, y).requires_grad


def test_dga_penalty(goldens, batch):
    assert_near(dga_penalty(*batch), goldens["dga_penalty"])


def test_trades_and_its_parts(goldens, batch):
    logits, logits_adv, y = batch
    assert_near(cross_entropy(logits, y), goldens["trades_natural"])
    kl = kl_regularizer(logits, logits_adv)
    assert_near(kl / CLASSES, goldens["trades_kl_classmean"])
    # The original averages the divergence over classes, so its gamma of 6 is our 6 / K.
    assert_near(trades(*batch, gamma=6 / CLASSES), goldens["trades_none_classmean"])
    assert_near(trades(*batch, gamma=6.0).mean(), goldens["trades_batchmean"])
