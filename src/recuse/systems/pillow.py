"""Resizing as Pillow does it, bit for bit, in operations that ONNX has.

Pillow resizes rows and columns one after the other; each pass rounds its weights to 22 binary
places and its result to one of 256 steps. In float64 both are exact.
"""

from typing import Any

import PIL
import torch
from torch import Tensor, nn

from recuse.systems.inputs import InputForm

_PLACES = 1 << 22
# Since then an image that loses much more of its height than of its width loses the height first.
_HEIGHT_FIRST = int(PIL.__version__.partition(".")[0]) >= 13


class Decoded(nn.Module):
    """Decoded images, ``[batch, height, width, channels]`` in 256 steps, as networks take them.

    Args:
        form: Size, crop and whether other sizes are resized.
    """

    def __init__(self, form: InputForm) -> None:
        super().__init__()
        self.form = form

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], channels first, of the form's size."""
        x = images.permute(0, 3, 1, 2)
        if self.form.resize is not None:
            high, wide = self.form.size
            rows, columns = _places(x.shape[2]), _places(x.shape[3])
            cut = self.form.crop is not None
            tall = _kept(rows, columns, high, wide) if cut else rows[-1] + 1
            broad = _kept(columns, rows, wide, high) if cut else columns[-1] + 1
            across, down = _weights(columns, broad, wide), _weights(rows, tall, high)
            x, turned = x.double(), x.double().transpose(2, 3)
            x = _pass(_pass(x, across).transpose(2, 3), down).transpose(2, 3)
            if _HEIGHT_FIRST:
                other = _pass(_pass(turned, down).transpose(2, 3), across)
                x = torch.where(tall - high > 2 * (broad - wide).clamp(min=0), other, x)
        return x.float() / 255


def _places(length: Any) -> Tensor:
    """0, 1, … of a length that may be a symbol while the module is traced."""
    return torch.arange(length, dtype=torch.float64)


def _kept(own: Tensor, other: Tensor, size: int, across: int) -> Tensor:
    """How much of a side a centred crop to the proportions of the size keeps."""
    length = own[-1] + 1
    wanted = ((other[-1] + 1) * size / across).round().clamp(min=1)
    return torch.minimum(length, wanted)


def _weights(places: Tensor, kept: Tensor, size: int) -> Tensor:
    """Pillow's bilinear weights in 22 binary places, ``[size, length]``."""
    first = ((places[-1] + 1 - kept) / 2).floor()
    scale = kept / size
    support = scale.clamp(min=1)
    centre = (torch.arange(size, dtype=torch.float64)[:, None] + 0.5) * scale
    place = places[None] - first
    low = (centre - support + 0.5).trunc().clamp(min=0)
    high = torch.minimum((centre + support + 0.5).trunc(), kept)
    near = (1 - ((place - centre + 0.5) * (1 / support)).abs()).clamp(min=0)
    near = torch.where((place >= low) & (place < high), near, 0.0)
    return (near / near.sum(1, keepdim=True) * _PLACES + 0.5).floor()


def _pass(x: Tensor, weights: Tensor) -> Tensor:
    summed = x @ weights.T
    return ((summed + _PLACES // 2) / _PLACES).floor().clamp(0, 255)


__all__ = ["Decoded"]
