"""What a worker process does: it loads the system and answers batches within their time."""

import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from litserve import LitAPI

from recuse.errors import RecuseError
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

    image: npt.NDArray[np.float32]
    explain: bool = False


class SystemApi(LitAPI):  # type: ignore[misc]
    """A system as LitServe runs it, in a process of its own.

    What the front has read goes in as it is, and rows come out.

    Args:
        folder: Of the system.
        budget_s: Seconds that a batch may compute.
        threads: Of this process; 0 for as many as torch takes.
        rows: Most images of a batch.
        wait_s: How long a batch waits for more.
    """

    def __init__(
        self, folder: str, *, budget_s: float, threads: int, rows: int, wait_s: float
    ) -> None:
        super().__init__(max_batch_size=rows, batch_timeout=wait_s)
        self.folder, self.budget_s, self.threads = folder, budget_s, threads
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
        return answer(self.system, asked, self.budget_s)

    def unbatch(self, output: list[Row]) -> list[Row]:
        """A row each."""
        return output


def answer(system: System, asked: list[Asked], budget_s: float) -> list[Row]:
    """Answer a batch within its time: what is not decided by then is abstained on.

    Args:
        system: Who answers.
        asked: Images of the system's form.
        budget_s: Seconds.

    Returns:
        A row each, or ``{"error": sentence}``.
    """
    end = time.monotonic() + budget_s
    images = torch.from_numpy(np.stack([one.image for one in asked]))
    try:
        rows = [found.row("request") for found in system.predict(images, end=end)]
    except RecuseError as error:
        if len(asked) == 1:
            return [{"error": str(error)}]
        return [row for one in asked for row in answer(system, [one], budget_s / len(asked))]
    for one, row in zip(asked, rows, strict=True):
        if one.explain:
            row["explanation"] = _explained(system, one, time.monotonic() + budget_s)
    return rows


def _explained(system: System, one: Asked, end: float) -> Row:
    found = system.explain(torch.from_numpy(one.image), end=end)
    plain = asdict(found)
    pixels = found.picture.permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()
    return {**plain, "picture": pixels, "sentence": found.sentence}


__all__ = ["Asked", "SystemApi", "answer"]
