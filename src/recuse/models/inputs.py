"""What a batch of images and a classifier's answer must look like; every refusal is one sentence.

A network answers anything of the right shape: pixels up to 255, normalised batches, channels in
the wrong place. What it answers then is worth nothing, and so is whatever vouches for it.
"""

import math

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Logits
from recuse.errors import DataError

# One channel, three, or three and transparency: what tells a channel axis from a side.
_CHANNELS = (1, 3, 4)
_IMAGE, _BATCH_OF_POINTS, _BATCH_OF_IMAGES = 3, 2, 4
_ROUNDED = 1e-3
_OVERSHOOT = 0.2  # of a resized image


def check_images(x: object, *, name: str = "the batch") -> Images:
    """The batch itself, if it is one of images in [0, 1].

    Args:
        x: ``(batch, channels, height, width)`` in floating point, or points ``(batch, features)``.
        name: What the images are, for the message.

    Raises:
        DataError: Another type, dtype, shape or range, or values that are not finite.
    """
    if not isinstance(x, Tensor):
        raise DataError(
            f"{name} is a {type(x).__name__}, not a tensor; images are a float tensor in [0, 1] "
            "of shape (batch, channels, height, width): torch.as_tensor makes one of an array"
        )
    if not x.dtype.is_floating_point:
        raise DataError(
            f"{name} is in {_dtype(x)}, but images are floats in [0, 1]; write x.float() / 255 "
            "for images in 256 steps"
        )
    _check_shape(x, name)
    _check_range(x, name)
    return x


def _check_shape(x: Tensor, name: str) -> None:
    shape = tuple(x.shape)
    if x.dim() == _IMAGE:
        raise DataError(
            f"{name} has shape {shape}, a single image; a batch has one axis more: write x[None]"
        )
    if x.dim() not in (_BATCH_OF_POINTS, _BATCH_OF_IMAGES):
        raise DataError(
            f"{name} has shape {shape}, but a batch of images is (batch, channels, height, width)"
        )
    if x.dim() == _BATCH_OF_IMAGES and shape[1] not in _CHANNELS and shape[3] in _CHANNELS:
        raise DataError(
            f"{name} has shape {shape}, with its channels last; write x.permute(0, 3, 1, 2)"
        )


def _check_range(x: Tensor, name: str) -> None:
    if not x.numel():
        return
    low, high = (float(v) for v in torch.aminmax(x.detach()))
    if not (low >= 0 and high <= 1):
        if not (math.isfinite(low) and math.isfinite(high)):
            raise DataError(f"{name} holds NaN or infinity; images are finite numbers in [0, 1]")
        if low < -_OVERSHOOT:
            advice = "give images as they are, before any normalisation (it belongs in the model)"
        elif high > 1 + _OVERSHOOT:
            advice = "divide images in 256 steps by 255"
        else:
            advice = "clamp them: x.clamp(0, 1)"
        raise DataError(f"{name} has values from {low:.4g} to {high:.4g}, not in [0, 1]; {advice}")


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
            "returns one tensor of logits; wrap it in a module that returns only these"
        )
    shape = tuple(outputs.shape)
    if outputs.dim() != _BATCH_OF_POINTS or shape[0] != rows or shape[1] < 2:
        raise DataError(
            f"{name!r} returns outputs of shape {shape} for {rows} images, but a classifier "
            "returns logits of shape (batch, classes) with two classes or more"
        )
    if not outputs.dtype.is_floating_point:
        raise DataError(f"{name!r} returns outputs in {_dtype(outputs)}, but logits are floats")
    if _look_like_probabilities(outputs.detach()):
        raise DataError(
            f"{name!r} returns probabilities (rows sum to 1), but a classifier here returns "
            "logits; drop its last softmax"
        )
    return outputs


def _look_like_probabilities(outputs: Tensor) -> bool:
    # Rows of a hard vote sum to 1 as well, and their order is all that is asked of them.
    if not outputs.numel() or bool((outputs < 0).any()):
        return False
    summed = (outputs.double().sum(1) - 1).abs() <= _ROUNDED
    return bool(summed.all() & ((outputs > 0) & (outputs < 1)).any())


def logits_of(model: nn.Module, x: Images, name: str) -> Logits:
    """The model's logits for ``x``, without a graph; a model that cannot read ``x`` says so.

    Raises:
        DataError: The model cannot read these images, or returns something else than logits.
    """
    try:
        with torch.no_grad():
            outputs = model(x)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise DataError(_cannot_read(model, x, name, error)) from error
    return check_outputs(outputs, len(x), name)


def _cannot_read(model: nn.Module, x: Images, name: str, error: Exception) -> str:
    weights = next((p for p in model.parameters() if p.dtype.is_floating_point), x)
    if weights.dtype != x.dtype:
        return (
            f"{name!r} computes in {_dtype(weights)} but the images are in {_dtype(x)}; "
            f"write x.to(torch.{_dtype(weights)})"
        )
    if weights.device != x.device:
        return f"{name!r} lies on {weights.device} but the images on {x.device}; move one of them"
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{name!r} cannot read images of shape {tuple(x.shape[1:])}: {first}"


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


__all__ = ["check_images", "check_outputs", "logits_of"]
