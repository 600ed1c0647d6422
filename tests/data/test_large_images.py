"""A few bytes may ask for gigabytes of pixels: they are refused before anything is decoded."""

import io
import struct
import zlib

import pytest
from PIL import Image

from recuse.data.decode import PIXEL_LIMIT, open_image
from recuse.errors import DataError


def claims(width: int, height: int) -> bytes:
    """A PNG of one pixel whose header asks for more."""
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    data = buffer.getvalue()
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def test_a_bomb_is_one_sentence() -> None:
    with pytest.raises(DataError, match="scene 3: the image has 9000 x 9000 pixels, more than 64"):
        open_image(claims(9000, 9000), "scene 3")


def test_the_limit_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PIXEL_LIMIT, "0.001")
    with pytest.raises(DataError, match=r"more than 0\.001 megapixels"):
        open_image(claims(40, 30), "a")
    monkeypatch.setenv(PIXEL_LIMIT, "many")
    with pytest.raises(DataError, match="RECUSE_MAX_MEGAPIXELS is 'many'; give a number"):
        open_image(claims(1, 1), "a")
