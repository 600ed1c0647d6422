"""Cascades: stages that answer where their selector selects, then a core that always answers.

Two models, a robust one and a core, are the cascade of one stage. Without a core, what no stage
selects is not answered.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Labels, Logits, Mask, PerSample
from recuse.attacks.verify import evaluation_mode
from recuse.composition.cost import Passes, counted
from recuse.composition.deadline import before
from recuse.composition.members import Core, Stage, ask, check_budget, check_classes, fitted
from recuse.errors import ConfigError, DataError
from recuse.images import check_images
from recuse.models.inputs import check_channels, check_outputs, logits_of
from recuse.random import SampleNoise, fresh_noise
from recuse.results import Guarantee, Prediction
from recuse.selectors.calibrate import selected
from recuse.selectors.robustness import answered
from recuse.threat import Threat


@dataclass(frozen=True)
class Trace:
    """A batch of answers and what they cost.

    Attributes:
        prediction: The answers.
        entered: Inputs that reached each stage; the core, or nobody, is last.
        passes: Network passes of each stage, its selector's included; the core, or nobody, is
            last.
    """

    prediction: Prediction
    entered: tuple[int, ...]
    passes: tuple[Passes, ...]

    @property
    def abstained(self) -> tuple[float, ...]:
        """Share of the inputs each stage passed on, of those it was asked about (0 of none)."""
        pairs = zip(self.entered[1:], self.entered[:-1], strict=True)
        return tuple(passed / asked if asked else 0.0 for passed, asked in pairs)

    @property
    def costs(self) -> tuple[float, ...]:
        """Passes per input asked, of each stage and the core (0 where none was asked)."""
        pairs = zip(self.passes, self.entered, strict=True)
        return tuple(p.total / asked if asked else 0.0 for p, asked in pairs)

    @property
    def cost(self) -> float:
        """Passes per input of the whole composition."""
        return sum(p.total for p in self.passes) / max(self.entered[0], 1)


@dataclass(frozen=True, eq=False)
class Cascade:
    """Stages asked in turn, each only about what the earlier ones left, then the core.

    Attributes:
        stages: In the order in which they answer; none leaves a single model.
        core: Answers what no stage selects; without one, nobody does.
        budget: The attacker's ball. Stated here and in every selector that depends on it, and
            checked to be the same.

    A stage whose card names the core's classes in another order gets its outputs re-ordered.

    Raises:
        ConfigError: Nobody to answer, a selector built against another budget, or models whose
            cards say that they take different inputs or know different classes.
    """

    stages: tuple[Stage, ...]
    core: Core | None
    budget: Threat
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(member.name for member in self.members))
        if not self.members:
            raise ConfigError("a cascade without stages and core answers nothing; give it one")
        for stage in self.stages:
            check_budget(stage, self.budget)
        fitting = tuple(fitted(stage, self.members[-1]) for stage in self.stages)
        object.__setattr__(self, "stages", fitting)

    @property
    def members(self) -> tuple[Stage | Core, ...]:
        """Who can answer, in turn: the stages, and the core where there is one."""
        return self.stages if self.core is None else (*self.stages, self.core)

    @property
    def models(self) -> tuple[nn.Module, ...]:
        """Every classifier, the core last."""
        return tuple(member.model for member in self.members)

    @property
    def guarantee(self) -> tuple[Guarantee, ...]:
        """What stands behind each stage's answers; last what the core, or nobody, says."""
        return (*(stage.selector.guarantee for stage in self.stages), Guarantee.NONE)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Run a block with every classifier in eval mode, then give each its mode back."""
        with ExitStack() as modes:
            for model in self.models:
                modes.enter_context(evaluation_mode(model))
            yield

    def check(self, example: object) -> None:
        """Run every classifier on an example and refuse those that do not fit together.

        A cascade in use may not reach its last models for a long time; this finds a mismatch
        before it does.

        Raises:
            ConfigError: Different numbers of classes.
            DataError: No images, or a model that cannot read them or returns no logits.
        """
        example = check_images(example)[:1].clone()
        with self.evaluating():
            counts = [
                logits_of(model, example, name).shape[1]
                for model, name in zip(self.models, self.names, strict=True)
            ]
        for name, classes in zip(self.names, counts, strict=True):
            check_classes(name, classes, self.names[-1], counts[-1])

    def __call__(self, x: object, *, noise: SampleNoise | None = None) -> Prediction:
        """Answer a batch.

        Args:
            x: Images in [0, 1], ``(batch, channels, height, width)`` in the models' precision, or
                points ``(batch, features)``.
            noise: One id per row; a stage's randomness depends on the seed, the id and the stage.
                Leave it out in use: it is then fresh, so that no attacker knows the draws.

        Raises:
            ConfigError: Stages with different numbers of classes, or not one id per row.
            DataError: No such images, models that cannot read them or return no logits, or NaN
                or infinity from the core, which has to answer.
        """
        return self.traced(x, noise=noise).prediction

    @torch.no_grad()
    def traced(
        self, x: object, *, noise: SampleNoise | None = None, end: float | None = None
    ) -> Trace:
        """Answer a batch and count the passes each stage needed.

        Args:
            x: As for a call.
            noise: As for a call.
            end: When to stop, in seconds of ``time.monotonic``. What no stage has selected by then
                is not answered: a core may only answer what every stage was asked about.

        Raises:
            ConfigError, DataError: As for a call.
        """
        images = check_images(x)
        noise = noise or fresh_noise(len(images))
        if len(noise.ids) != len(images):
            raise ConfigError(
                f"{len(noise.ids)} ids of noise for {len(images)} inputs; give one each, or none"
            )
        book = _Book.blank(images, core=len(self.stages))
        rows = torch.arange(len(images), device=images.device)
        entered, passes = [], []
        with self.evaluating():
            for index, stage in enumerate(self.stages):
                entered.append(len(rows))
                with counted(*stage.networks) as spent, before(end, *stage.networks) as clock:
                    inner = noise.take(rows.tolist()).substream("stage", index)
                    rows = book.ask(stage, index, images, rows, inner)
                passes.append(spent)
                rows = book.give_up(rows) if clock.stopped else rows
            entered.append(len(rows))
            last = () if self.core is None else (self.core.model,)
            with counted(*last) as spent, before(end, *last) as clock:
                if self.core is not None:
                    book.fall_back(self.core, images, rows)
            if clock.stopped:
                book.give_up(rows)
        answers = book.prediction(self.guarantee, limited=end is not None)
        return Trace(answers, tuple(entered), (*passes, spent))


@dataclass
class _Book:
    """The answers of a batch while they are collected."""

    label: Labels
    stage: Labels
    selected: Mask
    score: PerSample
    timed_out: Mask
    classes: int = 0
    first: str = ""

    @classmethod
    def blank(cls, x: Images, *, core: int) -> "_Book":
        n = len(x)
        return cls(
            label=torch.full((n,), -1, device=x.device),
            stage=torch.full((n,), core, device=x.device),
            selected=torch.zeros(n, dtype=torch.bool, device=x.device),
            # A certified radius must not be rounded up.
            score=torch.full((n,), float("nan"), dtype=torch.float64, device=x.device),
            timed_out=torch.zeros(n, dtype=torch.bool, device=x.device),
        )

    def ask(self, stage: Stage, index: int, x: Images, rows: Tensor, noise: SampleNoise) -> Tensor:
        """Note what the stage answers among ``rows``; the rows it passes on are returned."""
        if not len(rows):
            return rows
        part = x[rows]
        with _explained(stage.networks, part, stage.name):
            logits, scores = ask(stage, part, noise)
        check_outputs(logits, len(rows), stage.name)
        self._same_classes(stage.name, logits)
        kept = selected(scores, stage.selector.threshold) & answered(logits)
        taken = rows[kept]
        self.label[taken] = logits[kept].argmax(1)
        self.stage[taken] = index
        self.selected[taken] = True
        self.score[taken] = scores[kept].to(self.score.dtype)
        return rows[~kept]

    def fall_back(self, core: Core, x: Images, rows: Tensor) -> None:
        """Note the core's answers to what is left.

        Raises:
            DataError: It has none for some input.
        """
        if len(rows):
            logits = logits_of(core.model, x[rows], core.name)
            self._same_classes(core.name, logits)
            if silent := int((~answered(logits)).sum()):
                raise DataError(
                    f"{core.name!r}, which answers what no stage selects, returns NaN or infinity "
                    f"on {silent} of {len(rows)} inputs; check the images and its weights"
                )
            self.label[rows] = logits.argmax(1)

    def give_up(self, rows: Tensor) -> Tensor:
        """Note that time ran out before these rows were decided; none of them is left to ask."""
        self.timed_out[rows] = True
        return rows[:0]

    def _same_classes(self, name: str, logits: Logits) -> None:
        classes = int(logits.shape[1])
        if self.classes:
            check_classes(name, classes, self.first, self.classes)
        self.first, self.classes = self.first or name, classes

    def prediction(self, guarantee: tuple[Guarantee, ...], *, limited: bool) -> Prediction:
        late = self.timed_out if limited else None
        return Prediction(self.label, self.stage, self.selected, self.score, guarantee, late)


@contextmanager
def _explained(networks: Iterable[nn.Module], x: Images, name: str) -> Iterator[None]:
    """Say in a sentence what of a network made a block fail, if it was a network."""
    for network in networks:
        check_channels(network, x, name)
    try:
        yield
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
        for network in networks:
            logits_of(network, x[:1], name)
        raise


def require_answers(cascade: Cascade, traces: Sequence[Trace]) -> None:
    """Refuse a cascade with a stage that selected nothing although it was asked.

    Raises:
        ConfigError: Names the stage and its threshold.
    """
    for index, stage in enumerate(cascade.stages):
        asked = sum(trace.entered[index] for trace in traces)
        left = sum(trace.entered[index + 1] for trace in traces)
        if asked and asked == left:
            raise ConfigError(
                f"{stage.name!r} selects none of the {asked} inputs it was asked about at "
                f"threshold {stage.selector.threshold:g}; calibrate it or drop the stage"
            )
