"""Where a run lives and computes."""

from dataclasses import dataclass
from pathlib import Path

from recuse.engine import Engine, InProcess
from recuse.models.checkpoint import SUFFIX
from recuse.records.layout import CHECKPOINTS


@dataclass(frozen=True)
class RunLocation:
    """Where a run lives and computes.

    Attributes:
        out: The run folder.
        data_root: The data folder, if any.
        device: To train and attack on.
        repair: Judge again what damaged shards of records held.
        engine: Where networks are judged.
    """

    out: Path
    data_root: Path | None = None
    device: str = "cpu"
    repair: bool = False
    engine: Engine = InProcess()

    def checkpoint(self, name: str) -> Path:
        """Where a model of the run is kept."""
        return self.out / CHECKPOINTS / f"{name}{SUFFIX}"


__all__ = ["RunLocation"]
