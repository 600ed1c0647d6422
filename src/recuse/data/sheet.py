"""A contact sheet: many small images with captions in one PNG, to look at data with one's eyes."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

_MARGIN = 6
_CAPTION = 14
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def contact_sheet(
    images: Sequence[Tensor], captions: Sequence[str], *, columns: int = 8, tile: int = 96
) -> bytes:
    """Draw images in reading order, each with a line of text below.

    Args:
        images: ``[channels, height, width]`` in [0, 1]; grey or RGB, of any size.
        captions: One line each; cut where it does not fit.
        columns: Images per row.
        tile: Side of a drawn image in pixels; pixels are enlarged, never smoothed.

    Returns:
        A PNG file.

    Raises:
        ValueError: No image, or not one caption per image.
    """
    if not images or len(images) != len(captions):
        raise ValueError(f"{len(images)} images and {len(captions)} captions; give one per image")
    rows = -(-len(images) // columns)
    width = min(columns, len(images)) * (tile + _MARGIN) + _MARGIN
    height = rows * (tile + _CAPTION + _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=10)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x = _MARGIN + (place % columns) * (tile + _MARGIN)
        y = _MARGIN + (place // columns) * (tile + _CAPTION + _MARGIN)
        sheet.paste(_tile(image, tile), (x, y))
        draw.text((x, y + tile + 1), _fitting(caption, tile, font), _INK, font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _tile(image: Tensor, side: int) -> Image.Image:
    scale = side / max(image.shape[-2:])
    size = [max(1, round(edge * scale)) for edge in image.shape[-2:]]
    drawn = functional.interpolate(image[None].float(), size=size, mode="nearest-exact")[0]
    pixels = (drawn.expand(3, -1, -1).permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    tile = Image.new("RGB", (side, side), _PAPER)
    tile.paste(Image.fromarray(pixels))
    return tile


def _fitting(text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
