"""What a batch of images must look like; every refusal is one sentence.

A network answers anything of the right shape: pixels up to 255, normalised batches, channels in
the wrong place. What it answers then is worth nothing, and so is whatever vouches for it.
"""

import math

import torch
from torch import Tensor

from recuse.arrays import Images
from recuse.errors import DataError

# One channel, three, or three and transparency: what tells a channel axis from a side.
_CHANNELS = (1, 3, 4)
_IMAGE, _BATCH_OF_POINTS, _BATCH_OF_IMAGES = 3, 2, 4
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
            f"{name} is in {dtype_of(x)}, but images are floats in [0, 1]; write x.float() / 255 "
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


def dtype_of(x: Tensor) -> str:
    """The type of a tensor's numbers, as a person writes it."""
    return str(x.dtype).removeprefix("torch.")


__all__ = ["check_images", "dtype_of"]
