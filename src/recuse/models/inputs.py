"""What a classifier's answer to images must look like; every refusal is one sentence."""

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Logits
from recuse.errors import DataError
from recuse.images import check_images, dtype_of
from recuse.models.normalize import Normalize

_ROUNDED = 1e-3
_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


def check_outputs(outputs: object, rows: int, name: str) -> Logits:
    """What a classifier returned for ``rows`` images, if these are logits; NaN is left to others.

    Args:
        outputs: What ``forward`` returned.
        rows: Images it was given.
        name: The model's, for the message.

    Raises:
        DataError: Not one floating-point tensor of shape ``(batch, classes)`` with two classes or
            more, or probabilities instead of logits.
    """
    if not isinstance(outputs, Tensor):
        raise DataError(
            f"{name!r} returns a {type(outputs).__name__} from forward, but a classifier here "
            "returns one tensor of logits; name the output that holds them (--output), or wrap it "
            "in a module that returns only these"
        )
    shape = tuple(outputs.shape)
    if outputs.dim() != 2 or shape[0] != rows or shape[1] < 2:
        raise DataError(
            f"{name!r} returns outputs of shape {shape} for {rows} images, but a classifier "
            "returns logits of shape (batch, classes) with two classes or more"
        )
    if not outputs.dtype.is_floating_point:
        raise DataError(f"{name!r} returns outputs in {dtype_of(outputs)}, but logits are floats")
    if _look_like_probabilities(outputs.detach()):
        raise DataError(
            f"{name!r} returns probabilities (rows sum to 1), but a classifier here returns "
            "logits; drop its last softmax, or say so (--output log takes their logarithm)"
        )
    return outputs


def _look_like_probabilities(outputs: Tensor) -> bool:
    # Rows of a hard vote sum to 1 as well, and their order is all that is asked of them.
    if not outputs.numel() or bool((outputs < 0).any()):
        return False
    summed = (outputs.double().sum(1) - 1).abs() <= _ROUNDED
    return bool(summed.all() & ((outputs > 0) & (outputs < 1)).any())


def check_channels(model: nn.Module, x: Images, name: str) -> None:
    """Refuse images of other channels than a model normalises: a grey one would pass for colour.

    Raises:
        DataError: The numbers of channels differ.
    """
    for layer in model.modules():
        if isinstance(layer, Normalize) and len(layer.mean) != x.shape[1]:
            raise DataError(
                f"{name!r} normalises {len(layer.mean)} channels but the images have {x.shape[1]}; "
                "use a model trained for such images"
            )


def logits_of(model: nn.Module, x: Images, name: str) -> Logits:
    """The model's logits for ``x``, without a graph; a model that cannot read ``x`` says so.

    Raises:
        DataError: The model cannot read these images, or returns something else than logits.
    """
    check_channels(model, x, name)
    try:
        with torch.no_grad():
            outputs = model(x)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if out_of_memory(error):
            raise
        raise DataError(_cannot_read(model, x, name, error)) from error
    # A network may ask for a graph by itself.
    return check_outputs(outputs, len(x), name).detach()


def out_of_memory(error: Exception) -> bool:
    """Whether a device had no room: only GPUs have an error of their own for it."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )


def _cannot_read(model: nn.Module, x: Images, name: str, error: Exception) -> str:
    weights = next((p for p in model.parameters() if p.dtype.is_floating_point), x)
    if weights.dtype != x.dtype:
        return (
            f"{name!r} computes in {dtype_of(weights)} but the images are in {dtype_of(x)}; "
            f"write x.to(torch.{dtype_of(weights)})"
        )
    if weights.device != x.device:
        return f"{name!r} lies on {weights.device} but the images on {x.device}; move one of them"
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{name!r} cannot read images of shape {tuple(x.shape[1:])}: {first}"


__all__ = ["check_channels", "check_images", "check_outputs", "logits_of", "out_of_memory"]
