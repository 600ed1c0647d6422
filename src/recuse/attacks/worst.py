"""How bad probabilities get within a ball: what a selector of any threshold can be counted by.

A verdict says that an answer changes. These three numbers say by how much it can be pushed, so that
softmax response at any threshold, and a mixture of any weight, has a sound count without another
attack: as strong as the searches here, and no stronger.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recuse.arrays import Counts, Images, Labels, Logits, PerSample
from recuse.attacks.apgd import Apgd
from recuse.attacks.binding import too_large
from recuse.attacks.margins import Confidence, CrossEntropy, logit_of, without_class
from recuse.attacks.radii import check_ascending
from recuse.attacks.search import clean_pass
from recuse.attacks.verify import evaluation_mode, forward
from recuse.errors import ConfigError
from recuse.protocols import AscentLoss
from recuse.random import SampleNoise
from recuse.threat import Threat


@dataclass(frozen=True)
class ProbabilityMargin:
    """Largest other probability minus that of the reference label, in [-1, 1].

    A network that is too sure of itself rounds it to -1; there the log-odds of the likeliest other
    class are ascended instead.
    """

    def __call__(self, logits: Logits, y: Labels) -> PerSample:
        """Probability margin of each row, negated: positive where another class wins."""
        p = logits.softmax(dim=1)
        value: Tensor = p.scatter(1, y.unsqueeze(1), 0.0).amax(dim=1) - logit_of(p, y)
        return value

    def temperature(self, clean_logits: Logits) -> PerSample:
        """1 where the margin rounds to its bounds; else 0."""
        return too_large(clean_logits).to(clean_logits.dtype)

    def tempered(self, logits: Logits, y: Labels, temperature: PerSample) -> PerSample:
        """Margin of the logits at a temperature."""
        z = logits / temperature.unsqueeze(1)
        return without_class(z, y).amax(dim=1) - logit_of(z, y)


@dataclass(frozen=True)
class WorstCases:
    """The worst found within one ball, one entry per input; NaN where nothing could be searched.

    Attributes:
        margin: Smallest p_y - max_other p.
        confidence: Largest max_other p.
        least: Smallest p_y.
    """

    margin: PerSample
    confidence: PerSample
    least: PerSample


@dataclass(frozen=True)
class Margins:
    """Searches a ball for the three worst cases, each by Auto-PGD without an early stop.

    Every point found counts for all three, and those of a smaller ball for the larger ones.

    Attributes:
        steps: Of each of the three searches.
        restarts: Of each of the three searches.
        radii: Of an evaluation, the radii to search; empty for all that it judges.
    """

    steps: int = 40
    restarts: int = 1
    radii: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ConfigError("worst margins need at least one step and one restart")

    def __call__(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        threats: Sequence[Threat],
        *,
        noise: SampleNoise,
        clean_logits: Logits | None = None,
    ) -> tuple[tuple[WorstCases, ...], Counts]:
        """Search a batch at ascending radii.

        Args:
            model: The classifier.
            x: Inputs.
            y: Labels, which a selected answer has to be.
            threats: Balls of one norm, radii ascending.
            noise: The searches' random starts.
            clean_logits: Logits at ``x``, where the caller has them.

        Returns:
            The worst cases of each ball, and the forward and backward passes spent per input.

        Raises:
            ConfigError: The threats do not ascend within one norm.
        """
        threats = check_ascending(threats)
        with evaluation_mode(model):
            logits, spent = clean_pass(model, x, clean_logits)
        passes = torch.full_like(y, spent, dtype=torch.int64)
        worst, starts, found = _seen(logits, y), [x.detach()] * len(_GOALS), []
        searched = [torch.zeros_like(y, dtype=torch.bool) for _ in _GOALS]
        for place, threat in enumerate(threats):
            for goal, loss in enumerate(_GOALS):
                top = Apgd(self.steps, loss, self.restarts).maximise(
                    model,
                    x,
                    y,
                    threat,
                    noise=noise.substream(threat, goal),
                    start=starts[goal] if place else None,
                    clean_logits=logits,
                )
                starts[goal] = top.x_adv
                searched[goal] = searched[goal] | top.searched
                passes += top.forwards + top.backwards
                with evaluation_mode(model):
                    worst = _worse(worst, _seen(forward(model, top.x_adv), y))
            found.append(_judged(worst, searched))
        return tuple(found), passes


_GOALS: tuple[AscentLoss, ...] = (CrossEntropy(), Confidence(), ProbabilityMargin())


def _seen(logits: Logits, y: Labels) -> WorstCases:
    p = logits.double().softmax(dim=1)
    own, other = logit_of(p, y), p.scatter(1, y.unsqueeze(1), 0.0).amax(dim=1)
    return WorstCases(own - other, other, own)


def _worse(one: WorstCases, two: WorstCases) -> WorstCases:
    return WorstCases(
        torch.minimum(one.margin, two.margin),
        torch.maximum(one.confidence, two.confidence),
        torch.minimum(one.least, two.least),
    )


def _judged(worst: WorstCases, searched: Sequence[Tensor]) -> WorstCases:
    """NaN where the search of a number had no usable gradient, so that it bounds nothing."""
    least, confidence, margin = searched
    values = (worst.margin, margin), (worst.confidence, confidence), (worst.least, least)
    return WorstCases(*(torch.where(known, value, torch.nan) for value, known in values))


__all__ = ["Margins", "ProbabilityMargin", "WorstCases"]
