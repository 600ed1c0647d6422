"""How long work is reported: a callback, so that nothing below the command line prints."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

from recuse.errors import ConfigError, PausedError


@runtime_checkable
class Progress(Protocol):
    """Called as work proceeds; the command line draws a bar with an ETA from it."""

    def __call__(self, task: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` units of ``task`` are finished."""
        ...


@dataclass(frozen=True)
class Standing:
    """Where the pieces of some work stand.

    Attributes:
        done: Pieces whose results are here.
        busy: Seconds since each piece was begun that a worker computes now.
        workers: How many may compute at the same time.
        again: Pieces that wait to be begun again.
        lost: Times that no result came back for a piece.
    """

    done: int
    busy: tuple[float, ...]
    workers: int
    again: int = 0
    lost: int = 0


Seen = Callable[[Standing], None]


@runtime_checkable
class WorkerProgress(Progress, Protocol):
    """Progress that also shows what workers do, between one result and the next."""

    def stands(self, task: str, pieces: int, standing: Standing) -> None:
        """The work is cut into so many pieces."""
        ...


def unseen(standing: Standing) -> None:
    """Show nobody."""


def seen_by(progress: Progress, task: str, pieces: int) -> Seen:
    """Who is shown the workers at a task: nobody, where progress is no more than a number."""
    return (
        partial(progress.stands, task, pieces) if isinstance(progress, WorkerProgress) else unseen
    )


@dataclass(frozen=True)
class TimeLimit:
    """Progress that stops the work when its time is up, where it can go on without loss.

    Attributes:
        shown: Told first.
        minutes: Until the work is stopped.
        begun: When they began, by the monotonic clock.
    """

    shown: Progress
    minutes: float
    begun: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ConfigError(f"{self.minutes:g} minutes leave no time to work; give more than 0")

    def __call__(self, task: str, done: int, total: int, note: str = "") -> None:
        """Tell, and stop if it is time.

        Raises:
            PausedError: The time is up.
        """
        self.shown(task, done, total, note)
        if time.monotonic() - self.begun >= 60 * self.minutes:
            raise PausedError(
                f"stopped after {self.minutes:g} minutes in {task} ({done} of {total}); the same "
                "command goes on from here"
            )

    def stands(self, task: str, pieces: int, standing: Standing) -> None:
        """Show what workers do, if anybody looks."""
        seen_by(self.shown, task, pieces)(standing)


def silent(task: str, done: int, total: int, note: str = "") -> None:
    """Report nothing."""
