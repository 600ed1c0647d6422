"""From a marked box to a classification image: enlarge at random, clip, cut, resize.

Source: "Avoiding Robust Misclassifications for Improved Robustness without Accuracy Loss",
Appendix, Eq. 19.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from recuse.data.annotations import Scene, Target
from recuse.data.boxes import enlarged_box, place_of
from recuse.data.decode import DAMAGED, Box, crop_resize, is_deep, too_large
from recuse.errors import ConfigError

EXCLUDED_FLAGS = (
    "occluded",
    "out-of-frame",
    "exterior",
    "ambiguous",
    "included",
    "dummy",
    "cross-boundary",
    "crowd",
)


@dataclass(frozen=True)
class CropSettings:
    """How boxes become images; part of what names a cropped data set.

    Attributes:
        size: Side of the images.
        slack: How much of the box's width and height to add in all, split at random between
            the two sides.
        seed: Of the split; with the object's key it decides where the sign lies in its image.
        excluded_flags: Objects so flagged are left out.
        excluded_labels: Objects of these classes are left out.
        min_samples: Classes with fewer training images are left out.

    Raises:
        ConfigError: A setting that no image can be cut with.
    """

    size: int = 64
    slack: float = 1.0
    seed: int = 0
    excluded_flags: tuple[str, ...] = EXCLUDED_FLAGS
    excluded_labels: tuple[str, ...] = ("other-sign",)
    min_samples: int = 2

    def __post_init__(self) -> None:
        if self.size < 1 or self.min_samples < 1:
            raise ConfigError(
                f"size {self.size} and min_samples {self.min_samples} of crops must be 1 or more"
            )
        if not (self.slack >= 0 and math.isfinite(self.slack)):
            raise ConfigError(f"slack is {self.slack}; boxes grow by a finite share of 0 or more")


@dataclass(frozen=True)
class Crop:
    """A finished classification image.

    Attributes:
        key: The object's.
        label: The object's.
        png: The image, lossless.
        box: Where it was cut, whole pixels.
        mode: Colour mode of the scene; other than RGB means it was converted.
    """

    key: str
    label: str
    png: bytes
    box: tuple[int, int, int, int]
    mode: str


@dataclass(frozen=True)
class Skipped:
    """An object or scene that gave no image.

    Attributes:
        scene: File name.
        key: Object, empty where the whole scene was skipped.
        reason: Short and countable.
        detail: One sentence.
    """

    scene: str
    key: str
    reason: str
    detail: str


def why_skipped(target: Target, scene: Scene, settings: CropSettings) -> Skipped | None:
    """Why an object is left out by its annotation alone, or None where it is kept."""

    def skipped(reason: str, detail: str) -> Skipped:
        return Skipped(scene.name, target.key, reason, f"{scene.name}, {target.key}: {detail}")

    for flag in settings.excluded_flags:
        if flag in target.flags:
            return skipped(f"flag {flag}", f"the object is flagged {flag}")
    if target.label in settings.excluded_labels:
        return skipped(f"label {target.label}", f"its label is {target.label}")
    x_min, y_min, x_max, y_max = target.box
    if not all(math.isfinite(edge) for edge in target.box):
        return skipped("box not finite", f"the box {_text(target.box)} is not finite")
    if not (x_max > x_min and y_max > y_min):
        return skipped("empty box", f"the box {_text(target.box)} is empty")
    width, height = scene.size
    if x_min >= width or y_min >= height or x_max <= 0 or y_max <= 0:
        return skipped(
            "box outside",
            f"the box {_text(target.box)} lies outside the image of {width}x{height}",
        )
    return None


def scene_bytes(scene: Scene) -> bytes | None:
    """The encoded image of a scene; None where there is none, nothing where it cannot be read."""
    if scene.image is None or isinstance(scene.image, bytes):
        return scene.image
    try:
        return Path(scene.image).read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        return b""


def crop_scene(
    scene: Scene, data: bytes | None, targets: tuple[Target, ...], settings: CropSettings
) -> Iterator[Crop | Skipped]:
    """Cut the objects out of one scene.

    Args:
        scene: Decoded once, however many objects.
        data: From :func:`scene_bytes`.
        targets: Those of its objects that :func:`why_skipped` kept.
        settings: Size, slack, seed.

    Yields:
        One crop per object, or one note for the whole scene where its image is missing,
        damaged, or not of the annotated size.
    """
    opened = _open(scene, data)
    if isinstance(opened, Skipped):
        yield opened
        return
    image, mode = opened
    for target in targets:
        alpha = place_of(target.key, settings.seed)
        box = enlarged_box(target.box, alpha, slack=settings.slack, size=scene.size)
        buffer = io.BytesIO()
        crop_resize(image, box, settings.size).save(buffer, "PNG")
        yield Crop(target.key, target.label, buffer.getvalue(), box, mode)


def _open(scene: Scene, data: bytes | None) -> tuple[Image.Image, str] | Skipped:
    if data is None:
        return Skipped(scene.name, "", "no image", f"{scene.name}: there is no image file")
    try:
        with Image.open(io.BytesIO(data)) as file:
            if said := too_large(file):
                return Skipped(scene.name, "", "too large", f"{scene.name}: {said}")
            if is_deep(file):
                detail = f"{scene.name}: more than 8 bits per channel (mode {file.mode})"
                return Skipped(scene.name, "", "more than 8 bits per channel", detail)
            # Most annotations are of images as they are seen, some of the pixels as stored.
            upright = ImageOps.exif_transpose(file)
            image = (upright if upright.size == scene.size else file).convert("RGB")
            mode = file.mode
    except DAMAGED as error:
        detail = f"{scene.name}: the image is truncated or not an image ({error})"
        return Skipped(scene.name, "", "damaged image", detail)
    if image.size != scene.size:
        detail = (
            f"{scene.name}: the image is {image.width}x{image.height}, annotated is "
            f"{scene.size[0]}x{scene.size[1]}"
        )
        return Skipped(scene.name, "", "size differs", detail)
    return image, mode


def _text(box: Box) -> str:
    return "(" + ", ".join(f"{edge:g}" for edge in box) + ")"
