"""The steepest point of a ball for a linear map: where the outputs change most, in the 1-norm.

``|J d|_1 = max over signs s of s·J d``, and for given signs the best step goes along ``J^T s``.
The maximum over the signs has many local optima, so every pattern is tried.
"""

from itertools import product

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Logits, PerSample
from recuse.threat import Threat

# 512 patterns, of which no two are opposite.
MOST_OUTPUTS = 10
# Numbers held at a time while patterns are compared.
_ELEMENTS = 1 << 24


def jacobian(model: nn.Module, x: Images) -> tuple[Logits, Tensor, Tensor]:
    """Logits, and the gradients to the input of the highest of them.

    Costs a forward pass and a backward pass for each of the highest logits, at most ten.

    Returns:
        All logits, shape ``batch classes``; the classes of the highest ones, ``batch k``; their
        gradients, ``batch k *shape``.
    """
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        logits: Tensor = model(leaf)
        highest = logits.topk(min(MOST_OUTPUTS, logits.shape[1]), dim=1)
        gradients = [gradient(value, leaf) for value in highest.values.unbind(dim=1)]
    return logits.detach(), highest.indices, torch.stack(gradients, dim=1)


def gradient(values: PerSample, leaf: Images) -> Images:
    """Gradient of each value to its input, 0 where there is none; the graph is kept."""
    if not values.requires_grad:
        return torch.zeros_like(leaf)
    (found,) = torch.autograd.grad(
        values.sum(), leaf, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return found


def steepest_points(gradients: Tensor, x: Images, threat: Threat) -> Images:
    """Per image, the point of the ball at which linear outputs have changed most.

    Args:
        gradients: Of each output, shape ``batch outputs *shape``, at most ten outputs.
        x: Centres.
        threat: The ball; [0, 1] is left out of the comparison of patterns.

    Returns:
        Points of the ball; ``x`` itself where all gradients are 0.
    """
    outputs = gradients.shape[1]
    signs = torch.tensor(list(product((1.0, -1.0), repeat=outputs - 1)), dtype=x.dtype)
    patterns = torch.cat([torch.ones(len(signs), 1), signs], dim=1).to(gradients)
    size = max(1, _ELEMENTS // (len(patterns) * x[0].numel()))
    best = [_best_gradient(part, patterns, threat) for part in torch.split(gradients, size)]
    return threat.project(x + threat.eps * threat.ascent_direction(torch.cat(best)), x)


def _best_gradient(gradients: Tensor, patterns: Tensor, threat: Threat) -> Images:
    """``J^T s`` for the signs that allow the largest change."""
    sums = (patterns @ gradients.flatten(2)).view(-1, *gradients.shape[2:])
    chosen = threat.dual_norm(sums).view(len(gradients), len(patterns)).argmax(dim=1)
    rows = torch.arange(len(gradients), device=chosen.device)
    return sums.view(len(gradients), len(patterns), *gradients.shape[2:])[rows, chosen]


__all__ = ["gradient", "jacobian", "steepest_points"]
