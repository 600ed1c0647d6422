"""Several attacks as one: an input is broken if any of them breaks it."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from recuse.arrays import Images, Labels, Logits, Mask
from recuse.attacks.active import Rows
from recuse.attacks.apgd import Apgd
from recuse.attacks.criteria import LabelChanged
from recuse.attacks.margins import CrossEntropy, Dlr, TargetedDlr
from recuse.attacks.search import clean_pass, merged
from recuse.attacks.square import Square
from recuse.attacks.verify import evaluation_mode
from recuse.errors import ConfigError
from recuse.protocols import Attack, Criterion
from recuse.random import SampleNoise
from recuse.results import AttackOutcome
from recuse.threat import Threat


@dataclass(frozen=True)
class Ensemble:
    """The point-wise worst case over its members, each run on what the earlier ones left.

    Attributes:
        members: Attacks, cheapest first; by default one loss after the other, then no gradients.
    """

    members: tuple[Attack, ...] = (Apgd(), Apgd(loss=Dlr()), Square())

    def __post_init__(self) -> None:
        if not self.members:
            raise ConfigError("an ensemble needs at least one attack")

    def __call__(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        threat: Threat,
        *,
        noise: SampleNoise,
        criterion: Criterion | None = None,
        start: Images | None = None,
        clean_logits: Logits | None = None,
    ) -> AttackOutcome:
        """Attack a batch; see :class:`recuse.protocols.Attack`.

        ``start`` is the first point of every member.
        """
        test = LabelChanged() if criterion is None else criterion
        with evaluation_mode(model):
            logits, spent = clean_pass(model, x, clean_logits)
        forwards = torch.full_like(y, spent, dtype=torch.int64)
        outcome = AttackOutcome(
            x.detach().clone(), test(x, logits, y), forwards, torch.zeros_like(forwards)
        )
        evidence = _Evidence(torch.zeros_like(outcome.success), torch.zeros_like(outcome.success))
        for number, member in enumerate(self.members):
            rows = (~outcome.success).nonzero().squeeze(1)
            if len(rows) == 0:
                break
            found = member(
                model,
                x[rows],
                y[rows],
                threat,
                noise=noise.take(rows.tolist()).substream("member", number),
                criterion=criterion,
                start=None if start is None else start[rows],
                clean_logits=logits[rows],
            )
            outcome = merged(outcome, rows, found)
            evidence.note(rows, found)
        return replace(outcome, searched=evidence.searched(outcome))


@dataclass
class _Evidence:
    """Which inputs members searched along a gradient, and which without one.

    A search without gradients may break what has none. Where it breaks nothing it proves little:
    an input at which the others had no gradient stays unjudged.
    """

    by_gradient: Mask
    without: Mask

    def note(self, rows: Rows, found: AttackOutcome) -> None:
        used = found.backwards > 0
        self.by_gradient[rows] |= found.judged & used
        self.without[rows] |= found.judged & ~used

    def searched(self, outcome: AttackOutcome) -> Mask:
        return torch.where(outcome.backwards > 0, self.by_gradient, self.without)


def standard_ensemble(classes: int, *, steps: int = 40, queries: int = 500) -> Ensemble:
    """The ensemble of a thorough evaluation, several times cheaper than AutoAttack's standard.

    Auto-PGD on cross-entropy and on the difference of logits ratio, Auto-PGD towards each of the
    most likely other classes (nine at most), and the gradient-free square attack.

    Args:
        classes: Number of classes, which bounds the number of targets.
        steps: Steps of every run of Auto-PGD.
        queries: Queries of the square attack.
    """
    targets = range(1, min(classes - 1, 9) + 1)
    return Ensemble(
        (
            Apgd(steps, CrossEntropy()),
            Apgd(steps, Dlr()),
            *(Apgd(steps, TargetedDlr(rank)) for rank in targets),
            Square(queries),
        )
    )


__all__ = ["Ensemble", "standard_ensemble"]
