"""A limit on the time that networks may take, kept between their forward passes."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn


class OutOfTimeError(Exception):
    """A network was asked for a forward pass after the time for it had run out."""


@dataclass
class Clock:
    """Whether the time of a block has run out.

    Attributes:
        stopped: The block was left before its end.
    """

    stopped: bool = False


@contextmanager
def before(end: float | None, *networks: nn.Module) -> Iterator[Clock]:
    """Run a block that stops at the first forward pass asked for after ``end``.

    A pass that has begun is finished, so that the block may take longer by one pass.

    Args:
        end: In seconds of ``time.monotonic``; None for no limit.
        networks: Whose passes are watched.

    Yields:
        A clock that says, after the block, whether it was stopped.
    """
    clock = Clock()
    if end is None:
        yield clock
        return

    def look(_: nn.Module, __: Any) -> None:
        if time.monotonic() >= end:
            raise OutOfTimeError

    with ExitStack() as hooks:
        for network in dict.fromkeys(networks):
            hooks.callback(network.register_forward_pre_hook(look).remove)
        try:
            yield clock
        except OutOfTimeError:
            clock.stopped = True


__all__ = ["Clock", "OutOfTimeError", "before"]
