"""Boxes around objects, enlarged at random so that the object lies anywhere in its image.

Source: "Avoiding Robust Misclassifications for Improved Robustness without Accuracy Loss",
Appendix, Eq. 19.
"""

import torch

from recuse.data.decode import Box
from recuse.random import generator


def place_of(key: str, seed: int) -> tuple[float, float]:
    """The random split alpha per axis of one object, uniform in [0, 1)."""
    x, y = torch.rand(2, generator=generator(seed, "crop", key)).tolist()
    return x, y


def enlarged_box(
    box: Box, alpha: tuple[float, float], *, slack: float, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Eq. 19: the box with ``slack`` times its side added, split ``alpha`` : ``1 - alpha``.

    Args:
        box: ``(x_min, y_min, x_max, y_max)``, right and lower edge exclusive.
        alpha: Share of the slack that goes left, and up.
        slack: Total enlargement as a multiple of width and height.
        size: Width and height of the image; the result is clipped to it.

    Returns:
        Whole pixels, nearest to the exact edges, at least one pixel wide and high.

    >>> enlarged_box((10, 10, 30, 20), (0.25, 0.5), slack=1.0, size=(100, 100))
    (5, 5, 45, 25)
    """
    x_min, x_max = _enlarged(box[0], box[2], alpha[0], slack, size[0])
    y_min, y_max = _enlarged(box[1], box[3], alpha[1], slack, size[1])
    return x_min, y_min, x_max, y_max


def _enlarged(
    low: int | float, high: int | float, alpha: float, slack: float, end: int
) -> tuple[int, int]:
    side = high - low
    first = min(max(round(low - slack * alpha * side), 0), end - 1)
    last = min(round(high + slack * (1 - alpha) * side), end)
    return first, max(last, first + 1)
