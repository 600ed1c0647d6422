"""What is measured of a network for thresholds: bounds that hold, and worsen with the radius."""

import numpy as np
import pytest
import torch
from torch import nn

from recuse.data import Digits
from recuse.evaluation.scores import (
    CONFIDENCE,
    PLAIN,
    attacked_columns,
    certified_columns,
    core_columns,
    mixture_columns,
    selection_columns,
)

RADII = ("0.003", "0.02")


@pytest.fixture(scope="module")
def images():
    return Digits().load_test().head(24)


def network(seed, classes=10):
    """Random weights of a size that makes answers differ from image to image."""
    generator = torch.Generator().manual_seed(seed)
    layers = nn.Linear(64, 32), nn.Linear(32, classes)
    with torch.no_grad():
        for parameter in (p for layer in layers for p in layer.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1]).eval()


def test_columns_of_an_attacked_network_agree_and_worsen_with_the_radius(images):
    found = attacked_columns(network(0), images, RADII, 5, (CONFIDENCE, *PLAIN))
    near, far = ({k: found[f"{k}@{r}"] for k in ("robust", "low_margin")} for r in RADII)
    assert 0 < far["robust"].sum() < near["robust"].sum()
    for radius in RADII:
        robust, margin = found[f"robust@{radius}"], found[f"low_margin@{radius}"]
        assert ((margin > 0) == robust).all()
        assert (margin <= found["margin"]).all()
        assert (found[f"low_confidence@{radius}"] <= found["confidence"] + 1e-6).all()
        # An attack made for confidence finds at least what stops at the first success.
        sure, first = found[f"wrong_confidence@{radius}"], found[f"wrong_confidence_first@{radius}"]
        assert sure.mean() >= first.mean()
    assert (far["low_margin"] <= near["low_margin"]).all()
    assert not (far["robust"] & ~near["robust"]).any()


def test_what_bounds_prove_no_attack_breaks(images):
    model = network(0)
    proven = certified_columns(model, images, RADII)
    found = core_columns(model, images, RADII, 5)
    assert any(proven[f"certified@{r}"].any() for r in RADII)
    for radius in RADII:
        assert not (proven[f"certified@{radius}"] & ~found[f"robust@{radius}"]).any()


def test_a_selection_score_lies_within_its_bounds(images):
    found = selection_columns(network(1, classes=2), images, RADII)
    for radius in RADII:
        assert (found[f"lower@{radius}"] <= found["score"] + 1e-5).all()
        assert (found["score"] <= found[f"upper@{radius}"] + 1e-5).all()


def test_the_ends_of_a_mixture_are_its_networks(images):
    robust, standard = network(0), network(1)
    found = mixture_columns(robust, standard, images, (0.0, 0.5, 1.0))
    with torch.no_grad():
        for share, model in ((0, standard), (1, robust)):
            right = (model(images.images).argmax(1) == images.labels).numpy()
            assert np.array_equal(found[f"accurate@{share}"], right)
