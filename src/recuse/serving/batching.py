"""How requests that wait become batches: all that are there, up to the most that fit."""

import time
from queue import Empty
from typing import Any

from litserve.loops.base import (
    _SENTINEL_VALUE,
    LitAPIStatus,
    LoopResponseType,
    _StopLoopError,
)
from litserve.loops.simple_loops import BatchedLoop

_LOOK_S = 1.0


class FullBatches(BatchedLoop):  # type: ignore[misc]
    """LitServe's loop of a worker, which takes whatever waits already.

    LitServe's own stops at the end of the waiting time, so that under load its batches are as
    small as what a queue hands over in that time, and asks the queue a thousand times a second
    while nobody is there.
    """

    def get_batch_requests(
        self, lit_api: Any, request_queue: Any, transport: Any
    ) -> tuple[list[Any], list[Any]]:
        """The requests of the next batch; none where nobody came for a second."""
        taken: list[Any] = []
        end, wait = 0.0, _LOOK_S
        while len(taken) < lit_api.max_batch_size:
            try:
                found = request_queue.get(timeout=wait) if wait > 0 else request_queue.get_nowait()
            except Empty:
                break
            if found == _SENTINEL_VALUE:
                raise _StopLoopError
            where, request, _, image = found
            self.put_response(
                transport, where, request, (), LitAPIStatus.START, LoopResponseType.REGULAR
            )
            taken.append((where, request, image))
            end = end or time.monotonic() + lit_api.batch_timeout
            wait = end - time.monotonic()
        return taken, []


__all__ = ["FullBatches"]
