"""The state of a run on disk: what a rerun needs to end at the same weights, bit for bit."""

import hashlib
import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as deserialize
from safetensors.torch import save as serialize
from torch import Tensor, nn

from recuse.data.split import Split
from recuse.errors import ConfigError, DataError
from recuse.models.checkpoint import state_sha256, weights_sha256
from recuse.progress import Progress
from recuse.records.layout import TRAINING_STATE, training_log_name
from recuse.records.sealed import checksum
from recuse.records.store import write_atomically
from recuse.serialize import to_plain
from recuse.training.config import TrainConfig
from recuse.training.processes import ALONE, Processes

Row = dict[str, float | int]
# What a state of before there were checksums begins with, and how long a checksum is.
_ARCHIVE, _SEAL = b"PK", 16
# What stands before the header of safetensors, and of what is in it the digest of the tensors.
_LENGTH, _DIGEST = 8, "sha256"


@dataclass
class Position:
    """Where a run is.

    Attributes:
        epoch: Epochs finished.
        step: Steps of the current epoch finished.
        sums: Sums over the current epoch's samples, for the log.
        samples: Samples of the current epoch seen.
        history: One log row per finished epoch.
        best_epoch: Epoch of the best weights on disk; ``None`` before the first judgement.
        parts: Parts a batch is cut into.
        seconds: Spent, validation included; what a kill made undone is not counted.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    samples: int = 0
    history: list[Row] = field(default_factory=list)
    best_epoch: int | None = None
    parts: int = 1
    seconds: float = 0.0


@dataclass(frozen=True)
class Files:
    """The files of one run.

    Attributes:
        folder: Holds nothing else.
        name: Of the model.
    """

    folder: Path
    name: str

    @property
    def state(self) -> Path:
        """What a rerun goes on from."""
        return self.folder / TRAINING_STATE

    @property
    def best(self) -> Path:
        """Weights of the epoch with the lowest robust inaccuracy on validation."""
        return self.folder / "best.safetensors"

    @property
    def last(self) -> Path:
        """Weights at the end of the last finished epoch."""
        return self.folder / "last.safetensors"

    @property
    def log(self) -> Path:
        """One JSON object a line and epoch."""
        return self.folder / training_log_name(self.name)

    def write_log(self, history: list[Row]) -> None:
        """Write the training log."""
        write_atomically(self.log, "".join(json.dumps(row) + "\n" for row in history).encode())


def fingerprint(
    network: nn.Module,
    train: Split,
    validation: Split,
    extra: Split | None,
    config: TrainConfig,
    progress: Progress,
) -> str:
    """What a state belongs to: config, data and initial weights, as a digest."""
    digest = hashlib.sha256(json.dumps(to_plain(config), sort_keys=True).encode())
    digest.update(weights_sha256(network).encode())
    for split in (train, validation, *([extra] if extra is not None else [])):
        digest.update("\x1f".join(split.ids).encode())
        digest.update(split.labels.cpu().numpy().tobytes())
        digest.update(str((len(split), *split.shape)).encode())
        split.hash_pixels(digest, progress)
    return digest.hexdigest()


def save_state(path: Path, identity: str, parts: Mapping[str, Any]) -> None:
    """Write a state whole or not at all.

    Raises:
        RecordError: The file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"identity": identity, **parts}, buffer)
    data = buffer.getvalue()
    write_atomically(path, checksum(data).encode() + data)


def load_state(path: Path, identity: str, processes: Processes) -> dict[str, Any] | None:
    """Read a state, if there is one; only the first process needs to see the file.

    Raises:
        ConfigError: It belongs to a different run, or the processes are of different runs.
        DataError: It cannot be read.
    """
    if not processes.agree(identity):
        raise ConfigError(
            "the processes were given different settings, data or initial weights; start all with "
            "the same command, on the same files"
        )
    # A mark before its bytes tells an empty file, which is damaged, from none.
    found = processes.from_first(lambda: b"=" + path.read_bytes() if path.is_file() else b"")
    if not found:
        return None
    try:
        data = _checked(found[1:])
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        owner = loaded["identity"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    if owner != identity:
        raise ConfigError(
            f"{path.parent} holds a different run (config, data or initial weights differ); choose "
            "another output folder or delete it"
        )
    return dict(loaded)


def _checked(data: bytes) -> bytes:
    """A state without its checksum; that of an older version has none.

    Raises:
        EOFError: They do not match.
    """
    if data.startswith(_ARCHIVE):
        return data
    seal, whole = data[:_SEAL], data[_SEAL:]
    if seal != checksum(whole).encode():
        raise EOFError
    return whole


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write bare weights as safetensors, and their digest with them."""
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
    write_atomically(path, serialize(plain, {_DIGEST: state_sha256(plain)}))


def load_weights(path: Path, processes: Processes = ALONE) -> dict[str, Tensor]:
    """Read what :func:`save_weights` wrote; only the first process needs to see the file.

    Raises:
        DataError: It is not as it was written.
    """
    data = processes.from_first(path.read_bytes)
    try:
        state = deserialize(data)
        length = int.from_bytes(data[:_LENGTH], "little")
        about = json.loads(data[_LENGTH : _LENGTH + length]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise _damaged(path) from error
    if about.get(_DIGEST, found := state_sha256(state)) != found:  # older versions wrote none
        raise _damaged(path)
    return state


def _damaged(path: Path) -> DataError:
    return DataError(f"{path} is damaged; delete {path.parent} and rerun")
