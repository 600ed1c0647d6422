"""Models whose adversarial points are known, or that are small enough to attack in a moment."""

import pytest
import torch
from torch import nn

from recuse.random import SampleNoise


class Linear(nn.Module):
    """Logits ``W x + b`` on flattened images, in float64."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x):
        return x.flatten(1).to(self.weight.dtype) @ self.weight.T + self.bias

    def distance(self, x, y, norm):
        """Exact distance of each row to the nearest other class, ignoring [0, 1]."""
        z = self(x)
        dual = {"l2": 2, "linf": 1}[norm]
        gaps = z.gather(1, y[:, None]) - z
        lengths = torch.linalg.vector_norm(
            self.weight[y][:, None] - self.weight[None], ord=dual, dim=2
        )
        ratios = (gaps / lengths.clamp_min(1e-30)).scatter(1, y[:, None], torch.inf)
        return ratios.amin(dim=1).detach()


class Scaled(nn.Module):
    """The same classifier with all logits multiplied by one number, which changes no answer."""

    def __init__(self, inner, k):
        super().__init__()
        self.inner, self.k = inner, k

    def forward(self, x):
        return self.k * self.inner(x)


def make_linear(classes, shape=(1, 4, 4), seed=0):
    g = torch.Generator().manual_seed(seed)
    size = torch.Size(shape).numel()
    weight = torch.randn(classes, size, generator=g, dtype=torch.float64)
    centre = torch.full((size,), 0.5, dtype=torch.float64)
    return Linear(weight, -weight @ centre).eval()


def make_noise(n, seed=0, stream="test"):
    return SampleNoise(seed, tuple(f"id/{i}" for i in range(n)), stream)


def near_centre(n, shape=(1, 4, 4), spread=0.05, seed=1, dtype=torch.float64):
    """Images so near 0.5 that a ball of their nearest boundary point stays inside [0, 1]."""
    g = torch.Generator().manual_seed(seed)
    return 0.5 + spread * (torch.rand(n, *shape, generator=g, dtype=dtype) - 0.5)


@pytest.fixture(scope="session")
def conv():
    """A small random network with convolutions and batch norm, float64, ten classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 16, 10),
        ).double()
    return model.eval()


@pytest.fixture(scope="session")
def photos():
    g = torch.Generator().manual_seed(5)
    return torch.rand(24, 3, 8, 8, generator=g, dtype=torch.float64)
