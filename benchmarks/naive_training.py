"""A training step of the paper's methods, written once and naively: what ours is measured by.

As the published code spends its passes: attacks differentiate the weights too (ERA, L2 TRADES),
the clean target of TRADES is computed anew, with a graph, in each attack step, and the attack
ends by testing its result. Start points and noise are given, so that both programs compute the
same loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from recuse.losses import cra, era_penalty, kl_regularizer, trades
from recuse.threat import Threat

STEPS, STEP = 10, 0.25


@dataclass(frozen=True)
class Given:
    """One batch and what is random about it."""

    x: Tensor
    y: Tensor
    start: Tensor
    noise: Tensor


def era(model: nn.Module, given: Given, threat: Threat) -> Tensor:
    """13 F + 12 Bx + 12 Bw."""
    logits = model(given.x)
    prediction = logits.detach().argmax(1)
    x_adv = threat.project(given.start, given.x)
    for _ in range(STEPS):
        leaf = x_adv.clone().requires_grad_()
        F.cross_entropy(model(leaf), prediction, reduction="sum").backward()
        direction = threat.ascent_direction(leaf.grad)
        x_adv = threat.project(x_adv + STEP * threat.eps * direction, given.x)
    with torch.no_grad():
        model(x_adv).argmax(1) != prediction  # noqa: B015  (whether it succeeded, for the log)
    model.zero_grad()
    logits_adv = model(x_adv)
    return trades(logits, logits_adv, given.y) + era_penalty(logits, logits_adv, given.y)


def trades_linf(model: nn.Module, given: Given, threat: Threat) -> Tensor:
    """22 F + 12 Bx + 2 Bw."""
    x_adv = threat.project(given.start, given.x)
    for _ in range(STEPS):
        leaf = x_adv.clone().requires_grad_()
        divergence = kl_regularizer(model(given.x), model(leaf)).sum()
        (grad,) = torch.autograd.grad(divergence, leaf)
        direction = threat.ascent_direction(grad)
        x_adv = threat.project(x_adv + STEP * threat.eps * direction, given.x)
    return trades(model(given.x), model(x_adv), given.y)


def trades_l2(model: nn.Module, given: Given, threat: Threat) -> Tensor:
    """22 F + 22 Bx + 22 Bw: the divergence is differentiated through weights and target too."""
    x_adv = threat.project(given.start, given.x)
    for _ in range(STEPS):
        leaf = x_adv.clone().requires_grad_()
        clean = given.x.clone().requires_grad_()
        kl_regularizer(model(clean), model(leaf)).sum().backward()
        direction = threat.ascent_direction(leaf.grad)
        x_adv = threat.project(x_adv + STEP * threat.eps * direction, given.x)
    model.zero_grad()
    return trades(model(given.x), model(x_adv), given.y)


def cra_step(model: nn.Module, given: Given, threat: Threat) -> Tensor:
    """17 F + 16 Bx + 16 Bw: one clean forward only for the log."""
    model(given.x).argmax(1)
    noisy = (given.x[:, None] + SIGMA * given.noise).flatten(0, 1)
    logits = model(noisy).unflatten(0, (len(given.x), -1))
    return cra(logits, given.y, sigma=SIGMA)


SIGMA = 0.12
NaiveLoss = Callable[[nn.Module, Given, Threat], Tensor]
NAIVE: dict[str, NaiveLoss] = {
    "era": era,
    "trades_linf": trades_linf,
    "trades_l2": trades_l2,
    "cra": cra_step,
}
