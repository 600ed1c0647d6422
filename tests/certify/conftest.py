"""A classifier whose votes under noise are known exactly."""

import math

import pytest
import torch
from torch import nn

from recuse.random import SampleNoise


class HalfSpace(nn.Module):
    """Class 0 where the mean coordinate (scaled to unit length) exceeds a threshold."""

    def __init__(self, dimension: int, classes: int = 2) -> None:
        super().__init__()
        self.classes = classes
        self.register_buffer("direction", torch.full((dimension,), dimension**-0.5))

    def forward(self, x):
        score = x.flatten(1) @ self.direction - 1.0
        rest = [torch.full_like(score, -1e6)] * (self.classes - 2)
        return torch.stack([score, -score, *rest], dim=1)


@pytest.fixture
def half_space():
    """(model, inputs at given signed distances from its boundary, their noise)."""

    def make(distances, *, classes=2, shape=(1, 4, 4), seed=0):
        dimension = math.prod(shape)
        model = HalfSpace(dimension, classes).eval()
        offsets = torch.tensor(distances)[:, None] + 1.0
        x = (offsets * model.direction).reshape(-1, *shape)
        return model, x, SampleNoise(seed, tuple(f"input/{d}" for d in distances))

    return make
