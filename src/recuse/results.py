"""What attacks, certificates, losses and compositions return: frozen, one entry per sample."""

from dataclasses import dataclass
from enum import Enum

import torch
from jaxtyping import Bool
from torch import Tensor

from recuse.arrays import Counts, Images, Labels, Mask, PerSample


@dataclass(frozen=True)
class AttackOutcome:
    """What an attack found, re-verified by a fresh float32 forward pass.

    Attributes:
        x_adv: One point of the ball per input: the adversarial example where ``success``,
            else the best point found.
        success: The criterion holds at ``x_adv``, which is inside the threat.
        forwards: Forward passes spent per sample, the verification included.
        backwards: Backward passes to the input spent per sample.
        searched: Inputs at which the search had something to follow: a gradient that was not 0
            throughout, and a loss that rose above its clean value. None where an attack does not
            say, which counts as everywhere.
    """

    x_adv: Images
    success: Mask
    forwards: Counts
    backwards: Counts
    searched: Mask | None = None

    @property
    def judged(self) -> Mask:
        """Inputs of which this outcome says something: broken, or searched without success."""
        return (
            torch.ones_like(self.success)
            if self.searched is None
            else (self.success | self.searched)
        )


class Status(Enum):
    """How a certification ended; the value is the message for the user.

    Smoothing certifies the smoothed classifier, bounds certify the network itself; the words hold
    for both.
    """

    CERTIFIED = "the certified classifier provably keeps this class in the ball"
    ABSTAINED = "no class is proven for the whole ball; training for the certificate may help"
    UNATTAINABLE = "no number of votes within the sample budget proves this radius at this alpha"


@dataclass(frozen=True)
class Certificate:
    """Decisions at several radii for every input; abstention is a status and never a class.

    Attributes:
        radii: Ascending radii in the norm's pixel units.
        certified: The certified classifier (with smoothing: the smoothed one) provably keeps
            ``prediction`` on each ball; certified at one radius implies certified at the smaller
            ones.
        attainable: Whether the sample budget can prove each radius at all.
        prediction: The certified class, else the class with most votes (the model's own
            prediction where nothing was drawn).
        samples: Noisy forward passes spent.
        bound: The largest radius proven, where the certifier finds it exactly.
    """

    radii: tuple[float, ...]
    certified: Bool[Tensor, "batch radii"]
    attainable: tuple[bool, ...]
    prediction: Labels
    samples: Counts
    bound: PerSample | None = None

    @property
    def radius(self) -> PerSample:
        """The largest radius known to be certified, 0 where there is none."""
        if self.bound is not None:
            return self.bound
        steps = torch.tensor((0.0, *self.radii), dtype=torch.float64, device=self.certified.device)
        largest: PerSample = steps[self.certified.sum(dim=1)]
        return largest

    def status(self, radius: float) -> tuple[Status, ...]:
        """How the certification of each input ended at one of the radii.

        Raises:
            ValueError: A radius that was not asked for.
        """
        column = self.radii.index(radius)
        no = Status.ABSTAINED if self.attainable[column] else Status.UNATTAINABLE
        return tuple(Status.CERTIFIED if ok else no for ok in self.certified[:, column].tolist())


@dataclass(frozen=True)
class Weighted:
    """The share of a loss whose weights have mean 1 over the batch.

    Its weights are scaled by their mean over the samples at hand. Where these are part of a
    larger batch, the loop scales the share again, by ``mean`` over the mean of the batch.

    Attributes:
        share: What it adds to the total of each sample.
        mean: Mean over these samples of the weights before they were scaled.
        parts: What it adds to the parts for the log, detached.
    """

    share: PerSample
    mean: Tensor
    parts: dict[str, PerSample]


@dataclass(frozen=True)
class LossTerms:
    """A training loss, per sample, with its parts for the log.

    Attributes:
        total: What the loop averages and differentiates.
        parts: Named detached parts, for example ``{"robust": ..., "penalty": ...}``.
        correct: The clean prediction was right (when the objective had one at hand).
        weighted: The share of the total that depends on which samples it is computed with.
    """

    total: PerSample
    parts: dict[str, PerSample]
    correct: Mask | None = None
    weighted: Weighted | None = None


class Guarantee(Enum):
    """What stands behind a selected answer."""

    CERTIFIED = "certified"
    ATTACKED = "attacked"
    NONE = "none"


@dataclass(frozen=True)
class Prediction:
    """Answers of a composition.

    Attributes:
        label: The answer per input, a class index; -1 where nobody answered (see ``abstained``).
        stage: Index of the stage that answered; the core, or nobody, is the last index.
        selected: A selecting stage answered (the core answers what nobody selected).
        score: Score of the selector that answered (certified radius, or its confidence);
            NaN for the core.
        guarantee: One :class:`Guarantee` per stage index, the core included.
        timed_out: Nobody answered because the time for it had run out; None where time was not
            limited.
    """

    label: Labels
    stage: Labels
    selected: Mask
    score: PerSample
    guarantee: tuple[Guarantee, ...]
    timed_out: Mask | None = None

    @property
    def abstained(self) -> Mask:
        """Nobody answered: no stage selects the input, and there is no core or no time left."""
        return self.label < 0
