"""What a robust loss is, and the pair of clean and adversarial logits it is computed from.

A robust loss is a formula over a :class:`Pair` of clean and adversarial logits, the quantity that
its attack ascends, and where that attack starts. Kept apart from the attack, any of them can be
the robust half of ERA and DGA, where one shared example of another attack serves both terms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from recuse.arrays import Counts, Images, Labels, Logits, PerSample
from recuse.attacks.pgd import Pgd
from recuse.losses import cross_entropy
from recuse.random import SampleNoise
from recuse.results import LossTerms, Weighted
from recuse.threat import Threat
from recuse.training.forward import (
    BatchNorm,
    attack_view,
    deployed_logits,
    loss_logits,
    same_as_deployed,
)

Ascent = Callable[[Logits], PerSample]


@dataclass(frozen=True)
class Pair:
    """What one step has to compute its loss from.

    Attributes:
        logits: At the clean inputs, with a graph to the weights.
        logits_adv: At the adversarial examples, with a graph to the weights.
        y: True labels.
        kappa: Attack steps until each example was first misclassified, 0 to ``steps``.
        steps: Steps of the attack.
        progress: Share of training that is done.
    """

    logits: Logits
    logits_adv: Logits
    y: Labels
    kappa: Counts
    steps: int
    progress: float = 1.0

    @property
    def correct(self) -> Tensor:
        """Whether the clean prediction is right."""
        return self.logits.detach().argmax(dim=1) == self.y


@runtime_checkable
class RobustLoss(Protocol):
    """A robust training loss: a formula, what its attack ascends, and where that starts."""

    @property
    def looks_at_clean(self) -> bool:
        """Whether the loss, or what its attack ascends, uses the clean logits."""
        ...

    def ascent(self, clean: Logits, y: Labels) -> Ascent:
        """What its attack increases, given the clean logits (constants) and the labels."""
        ...

    def start(self, x: Images, threat: Threat, attack: Pgd, noise: SampleNoise) -> Images:
        """First iterate of its attack."""
        ...

    def loss(self, pair: Pair) -> PerSample:
        """The loss per sample."""
        ...


@runtime_checkable
class Reweighted(Protocol):
    """A robust loss of which a share has weights of mean 1 over the batch."""

    def weighted(self, pair: Pair) -> Weighted | None:
        """That share of ``loss(pair)``; None as long as there is none."""
        ...


class StepCounter:
    """Counts, inside an attack, the steps each example survives before it is first misclassified.

    Wraps what the attack ascends and looks at the logits it is shown anyway, so that the count
    costs no pass.
    """

    def __init__(self, ascent: Ascent, y: Labels) -> None:
        self._ascent, self._y = ascent, y
        self._alive = torch.ones_like(y, dtype=torch.bool)
        self.kappa: Counts = torch.zeros_like(y)

    def __call__(self, logits: Logits) -> PerSample:
        """The wrapped value."""
        self._alive = self._alive & (logits.detach().argmax(dim=1) == self._y)
        self.kappa = self.kappa + self._alive.to(self.kappa.dtype)
        return self._ascent(logits)


def attack_pair(
    model: nn.Module,
    x: Images,
    y: Labels,
    threat: Threat,
    *,
    attack: Pgd,
    start: Images,
    ascent: Callable[[Logits, Labels], Ascent],
    batch_norm: BatchNorm,
    progress: float,
) -> Pair:
    """Clean and adversarial logits with a graph, the example found on the deployed network.

    Where the loss forward is the deployed function itself (no dropout, batch norm in eval mode
    or absent), the clean logits are computed once and guide the attack as well: 12 forwards for
    10 attack steps. Otherwise the attack gets clean logits of its own, and both loss forwards
    run as one batch, so that batch norm sees clean and adversarial inputs together: 13.

    Args:
        model: The network in training.
        x: Clean inputs.
        y: True labels.
        threat: Where the adversarial examples lie.
        attack: Steps and step size.
        start: First iterate.
        ascent: From clean logits and labels to what is ascended.
        batch_norm: Mode of batch norm in the loss forwards.
        progress: Share of training that is done.
    """
    shared = loss_logits(model, x, batch_norm) if same_as_deployed(model, batch_norm) else None
    with attack_view(model) as attacked:
        clean = deployed_logits(attacked, x) if shared is None else shared.detach()
        counter = StepCounter(ascent(clean, y), y)
        x_adv = attack.perturb(attacked, x, threat, counter, noise=NO_NOISE, start=start)
    if shared is None:
        both = loss_logits(model, torch.cat([x, x_adv]), batch_norm)
        logits, logits_adv = both.chunk(2)
    else:
        logits, logits_adv = shared, loss_logits(model, x_adv, batch_norm)
    return Pair(logits, logits_adv, y, counter.kappa, attack.steps, progress)


# An attack with a given start draws nothing; an empty batch of ids would fail if it did.
NO_NOISE = SampleNoise(0, ())


def terms_of(robust: RobustLoss, pair: Pair) -> LossTerms:
    """A robust loss and, if it has one, its weighted share."""
    total = robust.loss(pair)
    weighted = robust.weighted(pair) if isinstance(robust, Reweighted) else None
    return LossTerms(total, {"robust": total.detach()}, weighted=weighted)


def towards_another_class(clean: Logits, y: Labels) -> Ascent:
    """The untargeted attack on the *predicted* label, which one example can serve two terms with.

    Labels play no part: the example is the point closest to leaving F(x).
    """
    prediction = clean.argmax(dim=1)
    return lambda logits: cross_entropy(logits, prediction)


__all__ = [
    "Ascent",
    "Pair",
    "Reweighted",
    "RobustLoss",
    "StepCounter",
    "attack_pair",
    "terms_of",
    "towards_another_class",
]
