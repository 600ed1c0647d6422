"""What a system says of images, in values that need no tensor: one answer an image."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, overload

from recuse.composition import Cascade, Trace
from recuse.results import Guarantee


@dataclass(frozen=True)
class Answer:
    """What a system says of one image.

    Attributes:
        label: The class; None where nobody answers.
        name: Its name; None where nobody answers.
        abstained: Nobody answers: no stage selects the image and there is no core, or its time
            ran out.
        stage: Who answers; None where nobody does.
        selected: A stage answers, whose selector accepts the image.
        guarantee: What stands behind the answer: ``certified``, ``attacked`` or ``none``.
        radius: The attacker's budget that the guarantee speaks of; None where there is none.
        score: Of the selector that accepted the image; None where none did.
        passes: Network passes an image of its batch took, in the mean, on the way to its answer.
        timed_out: Nobody answers because the time for it had run out.
    """

    label: int | None
    name: str | None
    abstained: bool
    stage: str | None
    selected: bool
    guarantee: str
    radius: str | None
    score: float | None
    passes: int
    timed_out: bool = False

    def row(self, source: str) -> dict[str, Any]:
        """The answer as JSON values, behind the name of what was asked about."""
        return {"input": source, **asdict(self), "error": None}


def failed(source: str, error: str) -> dict[str, Any]:
    """The row of something that could not be read."""
    return {"input": source, "error": error}


@dataclass(frozen=True)
class Prediction(Sequence[Answer]):
    """Answers to a batch, in its order; every attribute is a list with one entry an image.

    Attributes:
        answers: One an image.
    """

    answers: tuple[Answer, ...]

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.answers)

    @overload
    def __getitem__(self, at: int) -> Answer: ...
    @overload
    def __getitem__(self, at: slice) -> "Prediction": ...
    def __getitem__(self, at: int | slice) -> "Answer | Prediction":
        return Prediction(self.answers[at]) if isinstance(at, slice) else self.answers[at]

    def __add__(self, other: "Prediction") -> "Prediction":
        return Prediction(self.answers + other.answers)

    @property
    def label(self) -> list[int | None]:
        """Classes; None where nobody answers."""
        return [answer.label for answer in self]

    @property
    def name(self) -> list[str | None]:
        """Names of the classes; None where nobody answers."""
        return [answer.name for answer in self]

    @property
    def stage(self) -> list[str | None]:
        """Who answers; None where nobody does."""
        return [answer.stage for answer in self]

    @property
    def selected(self) -> list[bool]:
        """Whether a stage answers."""
        return [answer.selected for answer in self]

    @property
    def abstained(self) -> list[bool]:
        """Whether nobody answers."""
        return [answer.abstained for answer in self]

    @property
    def score(self) -> list[float | None]:
        """Scores of the selectors that accepted; None where none did."""
        return [answer.score for answer in self]

    @property
    def guarantee(self) -> list[str]:
        """What stands behind each answer."""
        return [answer.guarantee for answer in self]

    @property
    def radius(self) -> list[str | None]:
        """The attacker's budget that each guarantee speaks of."""
        return [answer.radius for answer in self]


def answers_of(cascade: Cascade, labels: Sequence[str], trace: Trace) -> Prediction:
    """The answers of a cascade in words.

    Args:
        cascade: Who answered.
        labels: Names of the classes.
        trace: What it answered and what that took.
    """
    found = trace.prediction
    late = found.abstained & False if found.timed_out is None else found.timed_out
    spent = _passes_until(trace)
    columns = (found.label, found.stage, found.selected, found.score, late)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return Prediction(
        tuple(
            Answer(
                label=label if label >= 0 else None,
                name=labels[label] if label >= 0 else None,
                abstained=label < 0,
                stage=cascade.names[stage] if label >= 0 else None,
                selected=selected,
                guarantee=_guarantee(found.guarantee[stage], selected).value,
                radius=str(cascade.budget)
                if _guarantee(found.guarantee[stage], selected) is not Guarantee.NONE
                else None,
                score=None if math.isnan(score) else score,
                passes=spent[stage],
                timed_out=timed_out,
            )
            for label, stage, selected, score, timed_out in rows
        )
    )


def _guarantee(guarantee: Guarantee, selected: bool) -> Guarantee:
    return guarantee if selected else Guarantee.NONE


def _passes_until(trace: Trace) -> list[int]:
    """Passes per image that asking each stage took, with all stages before it."""
    total, until = 0.0, []
    for cost in trace.costs:
        total += cost
        until.append(round(total))
    return until


__all__ = ["Answer", "Prediction", "answers_of", "failed"]
