"""How long work is reported: a callback, so that nothing below the command line prints."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called as work proceeds; the command line draws a bar with an ETA from it."""

    def __call__(self, task: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` units of ``task`` are finished."""
        ...


def silent(task: str, done: int, total: int, note: str = "") -> None:
    """Report nothing."""
