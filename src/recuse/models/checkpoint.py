"""Networks on disk: safetensors with the card inside.

A checkpoint holds no code. It is written whole or not at all, and what is loaded is the
function that was saved, bit for bit: the digest of its weights is checked.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from recuse.errors import ConfigError, DataError
from recuse.models.cards import Card
from recuse.records.places import local_copy
from recuse.records.sealed import checksum
from recuse.records.store import write_atomically

SUFFIX = ".safetensors"
NAME, FORMAT = "recuse", 1
_MATRIX = 2


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of everything a model's state holds.

    Equal for equal functions of the same architecture, on any device, whatever the memory
    layout; dropout and mode do not count.
    """
    return state_sha256(model.state_dict())


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        plain = tensor.detach().cpu()
        digest.update(f"{name}\x1f{plain.dtype}\x1f{tuple(plain.shape)}\x1e".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(path: Path, model: nn.Module, card: Card, *, half: bool = False) -> Card:
    """Write a model and its card as one safetensors file.

    Args:
        path: File to write, ending in ``.safetensors``.
        model: A network of ``card.build()``'s structure, in any mode, on any device.
        card: What is known about it; its digest is replaced by that of what is written.
        half: Round the weights of layers to 16 bits, for half the space. It is loaded in 32 bits
            as the rounded network: measure that one. Biases, statistics and the normalisation
            stay as they are.

    Returns:
        The card as written.

    Raises:
        ConfigError: The model is not what the card builds, so it could not be loaded back, or a
            weight is beyond the range of 16 bits.
        RecordError: The file cannot be written; nothing is left half-written.
    """
    if path.suffix != SUFFIX:
        raise ConfigError(f"checkpoint {path} must end in {SUFFIX}")
    with torch.device("meta"):
        expected = blank(card).state_dict()
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if complaint := state_difference(state, expected):
        raise ConfigError(f"model does not fit the card of {card.name!r}: {complaint}")
    stored = {k: _halved(k, v) if half else v for k, v in state.items()}
    written = card.with_sha256(state_sha256({k: v.to(state[k].dtype) for k, v in stored.items()}))
    tensors = {k: v.clone() for k, v in stored.items()}
    text = written.to_json()
    about = {"format": f"{NAME}-{FORMAT}", "card": text, "checksum": checksum(text.encode())}
    write_atomically(path, serialize(tensors, about))
    return written


def _halved(name: str, tensor: Tensor) -> Tensor:
    if not name.startswith("network.") or tensor.dim() < _MATRIX or not tensor.is_floating_point():
        return tensor
    rounded = tensor.to(torch.float16)
    if not bool(rounded.isfinite().all()):
        raise ConfigError(f"{name!r} holds a weight beyond 16 bits; store it without half")
    return rounded


def read_card(path: Path) -> Card:
    """The card of a checkpoint, without its weights.

    Raises:
        DataError: Missing, damaged, or not a checkpoint of this program.
    """
    return _read(path, weights=False)[0]


def load_checkpoint(path: Path) -> tuple[nn.Module, Card]:
    """Read a checkpoint: the network that was saved, in eval mode on the CPU, and its card.

    Raises:
        DataError: Missing, truncated, damaged, not a checkpoint of this program, or weights
            whose digest is not the card's.
    """
    card, state = _read(path, weights=True)
    with torch.device("meta"):  # a card may ask for a network that no memory holds
        expected = blank(card).state_dict()
    require_state(state, expected, path)
    model = blank(card)
    load_state(model, state, path)
    if (digest := weights_sha256(model)) != card.sha256:
        raise DataError(
            f"{path} is damaged: its weights have SHA-256 {digest[:12]}…, its card says "
            f"{card.sha256[:12]}…; get the file again"
        )
    return model.eval(), card


def blank(card: Card) -> nn.Module:
    """The card's network before its weights are read; the global random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        return card.build()


def _read(path: Path, *, weights: bool) -> tuple[Card, dict[str, Tensor]]:
    if not path.is_file():
        raise DataError(f"checkpoint {path} does not exist")
    metadata, state = read_tensors(path, weights=weights)
    return _card(metadata, path), state


def read_tensors(path: Path, *, weights: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata of a safetensors file and, if asked for, its tensors.

    Raises:
        DataError: Truncated, or not a safetensors file.
    """
    try:
        with local_copy(path) as copy, safe_open(copy, framework="pt") as file:
            names = file.keys() if weights else ()
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{path} is truncated or not a safetensors file ({error}); get it again"
        ) from error


def _card(metadata: Mapping[str, str], path: Path) -> Card:
    name, _, number = metadata.get("format", "").partition("-")
    if name != NAME or not number.isdecimal() or "card" not in metadata:
        raise DataError(
            f"{path} holds no model card; recuse models import makes a checkpoint of such weights"
        )
    if int(number) > FORMAT:
        raise DataError(
            f"{path} was written by a newer version of recuse (format {number}, this one reads up "
            f"to {FORMAT}); update recuse"
        )
    text = metadata["card"]
    # Checkpoints of before there were checksums have none.
    if metadata.get("checksum") not in (None, checksum(text.encode())):
        raise DataError(f"{path} is damaged: its card does not match its checksum; get it again")
    try:
        return Card.from_json(text)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def load_state(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy ``state`` into ``model``, all keys or none.

    Raises:
        DataError: Keys or shapes that do not fit; the sentence names the first.
    """
    model.load_state_dict(require_state(state, model.state_dict(), path))


def require_state(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """``state`` with the counters of batch norm that it may lack.

    Raises:
        DataError: Keys or shapes that do not fit; the sentence names the first.
    """
    complete = with_counters(state, expected)
    if complaint := state_difference(complete, expected):
        raise DataError(f"{path} does not fit the architecture: {complaint}")
    return complete


def with_counters(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with the expected counters of batch norm, which play no part in any answer."""
    counters = {k: v for k, v in expected.items() if k.endswith("num_batches_tracked")}
    return {**counters, **state}


def state_difference(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """How two state dicts differ in names, shapes or types, in words; empty where they agree."""
    if missing := [k for k in expected if k not in state]:
        return f"{len(missing)} tensors are missing, first {missing[0]!r}"
    if extra := [k for k in state if k not in expected]:
        return f"{len(extra)} tensors are unknown, first {extra[0]!r}"
    for key, tensor in expected.items():
        if state[key].shape != tensor.shape:
            return f"{key!r} has shape {tuple(state[key].shape)}, expected {tuple(tensor.shape)}"
        if state[key].is_floating_point() != tensor.is_floating_point():
            return f"{key!r} has type {state[key].dtype}, expected {tensor.dtype}"
    return ""
