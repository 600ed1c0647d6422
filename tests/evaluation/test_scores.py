"""What a comparison of ways to abstain measures beside records."""

import numpy as np
import pytest
import torch
from torch import nn

from recuse.composition import Stage
from recuse.data import Digits
from recuse.evaluation.score_stage import score_stage
from recuse.evaluation.scores import confident_columns, mixture_columns
from recuse.selectors import SelectionNetwork
from recuse.threat import Threat

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


def test_an_attack_made_for_confidence_finds_at_least_what_stops_at_the_first_success(images):
    found = confident_columns(network(0), images, RADII, 5)
    near, far = (found[f"wrong_confidence@{radius}"] for radius in RADII)
    assert (near <= far).all()
    for radius in RADII:
        sure, first = found[f"wrong_confidence@{radius}"], found[f"wrong_confidence_first@{radius}"]
        assert sure.mean() >= first.mean()


def test_a_selection_score_lies_within_its_bounds(images, tmp_path):
    stage = Stage(network(0), SelectionNetwork(network(1, classes=2)))
    budget = Threat("linf", RADII[1])
    found = score_stage(stage, budget, images, records=tmp_path, radii=RADII).frame
    for radius in RADII:
        assert (found[f"least_score@{radius}"] <= found["score"] + 1e-5).all()
        assert (found["score"] <= found[f"largest_score@{radius}"] + 1e-5).all()
    assert (found["least_score@0.02"] < found["least_score@0.003"]).all()


def test_the_ends_of_a_mixture_are_its_networks(images):
    robust, standard = network(0), network(1)
    found = mixture_columns(robust, standard, images, (0.0, 0.5, 1.0))
    with torch.no_grad():
        for share, model in ((0, standard), (1, robust)):
            right = (model(images.images).argmax(1) == images.labels).numpy()
            assert np.array_equal(found[f"accurate@{share}"], right)
