"""What a worker process does: it loads the system and answers batches within their time."""

import os
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from litserve import LitAPI

from recuse.errors import RecuseError
from recuse.serving.batching import FullBatches
from recuse.systems import System, load
from recuse.threads import VARIABLES

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Asked:
    """One image on its way to a worker.

    Attributes:
        image: ``(channels, height, width)``, float32 in [0, 1].
        explain: The nearest other answer is wanted as well.
    """

    # LitServe writes every request for a log that nobody reads: pixel by pixel, it took most of the
    # front's time.
    image: npt.NDArray[np.float32] = field(repr=False)
    explain: bool = False


class SystemApi(LitAPI):  # type: ignore[misc]
    """A system as LitServe runs it, in a process of its own.

    What the front has read goes in as it is, and rows come out.

    Args:
        folder: Of the system.
        budget_s: Seconds that may be computed for a request.
        threads: Of this process; 0 for as many as torch takes.
        rows: Most images of a batch.
        wait_s: How long a batch waits for more.
    """

    def __init__(
        self, folder: str, *, budget_s: float, threads: int, rows: int, wait_s: float
    ) -> None:
        super().__init__(max_batch_size=rows, batch_timeout=wait_s, loop=FullBatches())
        self.folder, self.budget_s, self.threads = folder, budget_s, threads
        self.pace = Pace(rows)
        self.system: System | None = None

    def setup(self, device: str) -> None:
        """Load the system once, in the worker."""
        # Ctrl-C reaches every process of a terminal; the main one says when to stop.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.threads and not any(name in os.environ for name in VARIABLES):
            torch.set_num_threads(self.threads)
        self.system = load(Path(self.folder), device=device)

    def batch(self, inputs: list[Asked]) -> list[Asked]:
        """The requests of a batch."""
        return inputs

    def predict(self, batch: "list[Asked] | Asked", **_: Any) -> "list[Row]":
        """A row each; what goes wrong with one image is that image's row."""
        assert self.system is not None
        asked = batch if isinstance(batch, list) else [batch]
        return answer(self.system, asked, self.budget_s, self.pace)

    def unbatch(self, output: list[Row]) -> list[Row]:
        """A row each."""
        return output


@dataclass
class Pace:
    """How many images a worker answers at once, so that they are done within their time.

    Without it a burst of requests would fill batches that never end in time, and nobody would get
    an answer.

    Attributes:
        most: Never more than these.
        rows: Now.
    """

    most: int
    rows: int = 0

    def __post_init__(self) -> None:
        self.rows = self.rows or self.most

    def note(self, asked: int, *, late: bool, spent: float) -> None:
        """Take half where time ran out, twice as many where less than a third of it was needed.

        Args:
            asked: Images that were answered at once.
            late: Some were not decided in time.
            spent: Share of the time that it took.
        """
        if late:
            self.rows = max(1, asked // 2)
        elif asked >= self.rows and spent < 1 / 3:
            self.rows = min(self.most, 2 * self.rows)


def answer(system: System, asked: list[Asked], budget_s: float, pace: Pace) -> list[Row]:
    """Answer requests, at a pace that keeps their time: what is undecided then is abstained on.

    Args:
        system: Who answers.
        asked: Images of the system's form.
        budget_s: Seconds that may be computed for each request, alone or with others at once.
        pace: Of this worker.

    Returns:
        A row each, or ``{"error": sentence}``.
    """
    rows: list[Row] = []
    while len(rows) < len(asked):
        part = asked[len(rows) : len(rows) + pace.rows]
        began = time.monotonic()
        found = _answer(system, part, budget_s)
        late = any(row.get("timed_out") for row in found)
        pace.note(len(part), late=late, spent=(time.monotonic() - began) / budget_s)
        rows += found
    for one, row in zip(asked, rows, strict=True):
        if one.explain and row["error"] is None:
            row["explanation"] = _explained(system, one, time.monotonic() + budget_s)
    return rows


def _answer(system: System, asked: list[Asked], budget_s: float) -> list[Row]:
    """Answer requests at once; one that fails fails alone."""
    images = torch.from_numpy(np.stack([one.image for one in asked]))
    try:
        found = system.predict(images, end=time.monotonic() + budget_s)
    except RecuseError as error:
        if len(asked) == 1:
            return [{"error": str(error)}]
        return [row for one in asked for row in _answer(system, [one], budget_s)]
    return [entry.row("request") for entry in found]


def _explained(system: System, one: Asked, end: float) -> Row:
    found = system.explain(torch.from_numpy(one.image), end=end)
    plain = asdict(found)
    pixels = found.picture.permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()
    return {**plain, "picture": pixels, "sentence": found.sentence}


__all__ = ["Asked", "Pace", "SystemApi", "answer"]
