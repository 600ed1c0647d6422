"""Linear classifiers on points, where every robustness question has a closed form."""

from dataclasses import dataclass

import torch
from torch import nn

from recuse.results import AttackOutcome


def linear(weight, bias):
    layer = nn.Linear(len(weight[0]), len(weight)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight, dtype=torch.float64))
        layer.bias.copy_(torch.tensor(bias, dtype=torch.float64))
    return layer.eval()


def random_linear(seed, *, classes=3, inputs=2, scale=6.0):
    draw = torch.Generator().manual_seed(seed)
    weight = scale * torch.randn(classes, inputs, generator=draw, dtype=torch.float64)
    # Boundaries pass near the middle of the unit square, so that all classes occur.
    bias = -weight @ torch.full((inputs,), 0.5, dtype=torch.float64)
    bias += 0.3 * torch.randn(classes, generator=draw, dtype=torch.float64)
    return linear(weight.tolist(), bias.tolist())


@dataclass(frozen=True)
class ExactLinear:
    """Finds a point of another class within the linf ball of a linear model iff there is one."""

    def __call__(self, model, x, y, threat, *, noise, **_):
        best, margin = x.clone(), torch.full((len(x),), -torch.inf, dtype=x.dtype)
        for other in range(model.out_features):
            step = (model.weight[other] - model.weight[y]).sign() * threat.eps
            point = threat.project(x + step, x)
            logits = model(point)
            gap = logits[:, other] - logits.gather(1, y[:, None])[:, 0]
            gap = torch.where(y == other, -torch.inf, gap)
            best = torch.where((gap > margin)[:, None], point, best)
            margin = torch.maximum(gap, margin)
        once = torch.ones_like(y)
        return AttackOutcome(best.detach(), margin > 0, once, once)
