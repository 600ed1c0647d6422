"""A fast search on a copy first, the full search on whatever it leaves open."""

from dataclasses import dataclass, field, replace

import torch
from torch import nn

from recuse.arrays import Images, Labels, Logits
from recuse.attacks.criteria import LabelChanged
from recuse.attacks.search import clean_pass, merged
from recuse.attacks.verify import evaluation_mode, verified
from recuse.errors import DataError
from recuse.protocols import Attack, Criterion
from recuse.random import SampleNoise
from recuse.results import AttackOutcome
from recuse.threat import Threat


@dataclass(frozen=True)
class Screened:
    """Attacks a low-precision copy of the model first; every verdict is the full model's.

    What the screen claims is verified on the full model, and what is not broken then is attacked
    in full, from the same start as without a screen. So the broken set contains that of
    ``attack`` alone: the screen can add a break, never hide one.

    Attributes:
        attack: The full search, on the model the caller gives.
        screen: The fast copy, for example the same network prepared in bf16.
        first: The search on the fast copy; fewer steps suffice, most inputs break early.
        same_function: The copy is the model up to rounding, so that ``first`` decides: the full
            search meets only what the copy claims and the model denies, and what could not be
            searched on the copy.
    """

    attack: Attack
    screen: nn.Module = field(repr=False, compare=False)
    first: Attack
    same_function: bool = False

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
        """Attack a batch; see :class:`recuse.protocols.Attack`."""
        test = LabelChanged() if criterion is None else criterion
        with evaluation_mode(model):
            logits, spent = clean_pass(model, x, clean_logits)
            found, decides = self._screened(x, y, threat, noise, test, start, logits)
            claimed, searched = found.success, found.judged
            found = replace(found, forwards=found.forwards + spent)
            found = verified(found, model, x, y, threat, test)
        closed = found.success | (searched & ~claimed) if decides else found.success
        rows = (~closed).nonzero().squeeze(1)
        if len(rows) == 0:
            return found
        full = self.attack(
            model,
            x[rows],
            y[rows],
            threat,
            noise=noise.take(rows.tolist()),
            criterion=test,
            start=None if start is None else start[rows],
            clean_logits=logits[rows],
        )
        return merged(found, rows, full)

    def _screened(
        self,
        x: Images,
        y: Labels,
        threat: Threat,
        noise: SampleNoise,
        criterion: Criterion,
        start: Images | None,
        logits: Logits,
    ) -> tuple[AttackOutcome, bool]:
        """What is found on the copy, and whether what is not found there needs no full search."""
        try:
            found = self.first(
                self.screen,
                x,
                y,
                threat,
                noise=noise,
                criterion=criterion,
                start=start,
                clean_logits=logits,
            )
        except DataError:
            # A copy that cannot be searched decides nothing: the full search meets all inputs.
            none = torch.zeros(len(x), dtype=torch.int64, device=x.device)
            return AttackOutcome(x.detach().clone(), none.bool(), none, none), False
        return found, self.same_function


__all__ = ["Screened"]
