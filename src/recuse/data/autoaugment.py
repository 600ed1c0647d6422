"""The AutoAugment policy for CIFAR-10, applied to whole groups of a batch at once.

Every sub-policy has fixed strengths, so rows that drew the same operation, strength and sign go
through one call of torchvision's v2 transforms.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recuse.torchvision_shim import load_torchvision

_BINS = 10
_SIGNED = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"} | {
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
}


@dataclass(frozen=True)
class Step:
    """One operation of a sub-policy.

    Attributes:
        name: Operation.
        probability: Of applying it.
        level: Strength, one of ten levels.
    """

    name: str
    probability: float
    level: int = 0


CIFAR10_POLICY: tuple[tuple[Step, Step], ...] = (
    (Step("Invert", 0.1), Step("Contrast", 0.2, 6)),
    (Step("Rotate", 0.7, 2), Step("TranslateX", 0.3, 9)),
    (Step("Sharpness", 0.8, 1), Step("Sharpness", 0.9, 3)),
    (Step("ShearY", 0.5, 8), Step("TranslateY", 0.7, 9)),
    (Step("AutoContrast", 0.5), Step("Equalize", 0.9)),
    (Step("ShearY", 0.2, 7), Step("Posterize", 0.3, 7)),
    (Step("Color", 0.4, 3), Step("Brightness", 0.6, 7)),
    (Step("Sharpness", 0.3, 9), Step("Brightness", 0.7, 9)),
    (Step("Equalize", 0.6), Step("Equalize", 0.5)),
    (Step("Contrast", 0.6, 7), Step("Sharpness", 0.6, 5)),
    (Step("Color", 0.7, 7), Step("TranslateX", 0.5, 8)),
    (Step("Equalize", 0.3), Step("AutoContrast", 0.4)),
    (Step("TranslateY", 0.4, 3), Step("Sharpness", 0.2, 6)),
    (Step("Brightness", 0.9, 6), Step("Color", 0.2, 8)),
    (Step("Solarize", 0.5, 2), Step("Invert", 0.0)),
    (Step("Equalize", 0.2), Step("AutoContrast", 0.6)),
    (Step("Equalize", 0.2), Step("Equalize", 0.6)),
    (Step("Color", 0.9, 9), Step("Equalize", 0.6)),
    (Step("AutoContrast", 0.8), Step("Solarize", 0.2, 8)),
    (Step("Brightness", 0.1, 3), Step("Color", 0.7, 0)),
    (Step("Solarize", 0.4, 5), Step("AutoContrast", 0.9)),
    (Step("TranslateY", 0.9, 9), Step("TranslateY", 0.7, 9)),
    (Step("AutoContrast", 0.9), Step("Solarize", 0.8, 3)),
    (Step("Equalize", 0.8), Step("Invert", 0.1)),
    (Step("TranslateY", 0.7, 9), Step("AutoContrast", 0.9)),
)


def apply_policy(policy: tuple[tuple[Step, Step], ...], pixels: Tensor, draw: Tensor) -> Tensor:
    """Apply one sub-policy per row.

    Args:
        policy: The sub-policies.
        pixels: uint8 RGB, NCHW.
        draw: ``[batch, 5]`` uniform: sub-policy, then per step whether to apply and which sign.

    Returns:
        New uint8 images.

    Raises:
        ConfigError: torchvision is not installed; names the extra.
    """
    chosen = (draw[:, 0] * len(policy)).long().tolist()
    out = pixels.clone()
    for stage in (0, 1):
        groups: dict[tuple[str, int, bool], list[int]] = defaultdict(list)
        coins = draw[:, 1 + 2 * stage].tolist()
        negative = (draw[:, 2 + 2 * stage] < 0.5).tolist()
        for row, index in enumerate(chosen):
            step = policy[index][stage]
            if coins[row] < step.probability:
                sign = negative[row] and step.name in _SIGNED
                groups[step.name, step.level, sign].append(row)
        for (name, level, sign), rows in groups.items():
            index_of = torch.tensor(rows, device=out.device)
            out[index_of] = apply_step(name, out[index_of], level, negative=sign)
    return out


def apply_step(name: str, pixels: Tensor, level: int, *, negative: bool) -> Tensor:
    """Apply one operation to uint8 RGB images at one of ten levels.

    Args:
        name: A key of ``OPERATIONS``.
        pixels: uint8, NCHW.
        level: 0 to 9.
        negative: Turn the strength around, for operations that have a direction.
    """
    share = level / (_BINS - 1)
    tv = load_torchvision("torchvision.transforms.v2.functional", purpose="AutoAugment")
    return OPERATIONS[name](tv, pixels, -share if negative else share)


def _affine(
    tv: Any, x: Tensor, dx: float = 0.0, dy: float = 0.0, shear: tuple[float, float] = (0.0, 0.0)
) -> Tensor:
    # Shear about the upper left corner, as the policy's authors apply it.
    moved: Tensor = tv.affine(
        x, angle=0.0, translate=[int(dx), int(dy)], scale=1.0, shear=list(shear), center=[0, 0]
    )
    return moved


def _shear_degrees(share: float) -> float:
    return float(torch.rad2deg(torch.atan(torch.tensor(0.3 * share))))


OPERATIONS: dict[str, Callable[[Any, Tensor, float], Tensor]] = {
    "ShearX": lambda tv, x, share: _affine(tv, x, shear=(_shear_degrees(share), 0.0)),
    "ShearY": lambda tv, x, share: _affine(tv, x, shear=(0.0, _shear_degrees(share))),
    "TranslateX": lambda tv, x, share: _affine(tv, x, dx=150 / 331 * x.shape[-1] * share),
    "TranslateY": lambda tv, x, share: _affine(tv, x, dy=150 / 331 * x.shape[-2] * share),
    "Rotate": lambda tv, x, share: tv.rotate(x, 30 * share),
    "Brightness": lambda tv, x, share: tv.adjust_brightness(x, 1 + 0.9 * share),
    "Color": lambda tv, x, share: tv.adjust_saturation(x, 1 + 0.9 * share),
    "Contrast": lambda tv, x, share: tv.adjust_contrast(x, 1 + 0.9 * share),
    "Sharpness": lambda tv, x, share: tv.adjust_sharpness(x, 1 + 0.9 * share),
    "Posterize": lambda tv, x, share: tv.posterize(x, round(8 - 4 * share)),
    "Solarize": lambda tv, x, share: tv.solarize(x, 255 * (1 - share)),
    "AutoContrast": lambda tv, x, share: tv.autocontrast(x),
    "Equalize": lambda tv, x, share: tv.equalize(x),
    "Invert": lambda tv, x, share: tv.invert(x),
}
