"""Images as people have them become one batch; what is no such image is one sentence."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from recuse.errors import DataError
from recuse.systems import InputForm

RGB, GREY = InputForm(3, (6, 4)), InputForm(1, (6, 4))
DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (6, 4, 3), dtype=np.uint8)
WANTED = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)[None].float() / 255


def encoded(pixels: np.ndarray, kind: str = "PNG", **how) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **how)
    return file.getvalue()


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        PIXELS.transpose(2, 0, 1),
        PIXELS[None],
        (PIXELS / 255).astype(np.float64),
        torch.from_numpy(PIXELS.copy()),
        WANTED,
        WANTED[0],
        WANTED.double(),
        Image.fromarray(PIXELS),
        encoded(PIXELS),
        [encoded(PIXELS)],
        (image for image in [PIXELS]),
    ],
    ids=lambda images: type(images).__name__,
)
def test_every_form_of_an_image_is_the_same_batch(images: object) -> None:
    torch.testing.assert_close(RGB.batch(images), WANTED)


def test_files_and_mixed_lists(tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(PIXELS))
    found = RGB.batch([tmp_path / "a.png", str(tmp_path / "a.png"), PIXELS])
    torch.testing.assert_close(found, WANTED.repeat(3, 1, 1, 1))
    assert RGB.batch([]).shape == (0, 3, 6, 4)


@pytest.mark.parametrize("shape", [(6, 4), (1, 6, 4), (6, 4, 1), (5, 6, 4), (5, 1, 6, 4)])
def test_grey_images_come_with_and_without_a_channel(shape: tuple[int, ...]) -> None:
    pixels = DRAW.integers(0, 256, shape, dtype=np.uint8)
    found = GREY.batch(pixels)
    torch.testing.assert_close(found.flatten(), torch.from_numpy(pixels).flatten().float() / 255)
    assert found.shape == (5 if 5 in shape else 1, 1, 6, 4)


def test_all_ways_to_resize_agree() -> None:
    large = DRAW.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    form = InputForm(3, (12, 16))
    by_file, by_array = form.batch(encoded(large)), form.batch(large)
    by_float = form.batch(large.astype(np.float32) / 255)
    assert torch.equal(by_file, by_array)
    torch.testing.assert_close(by_float, by_array, atol=2 / 255, rtol=0)


def test_a_centred_crop_keeps_proportions() -> None:
    wide = np.zeros((8, 40, 3), dtype=np.uint8)
    wide[:, 16:24] = 255
    assert InputForm(3, (4, 4), crop="center").batch(wide).min() == 1
    assert InputForm(3, (4, 4)).batch(wide).min() == 0


def test_a_photograph_is_turned_upright(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows of the file are columns
    sideways = np.ascontiguousarray(np.rot90(PIXELS))
    data = encoded(sideways, "PNG", exif=exif)
    torch.testing.assert_close(RGB.batch(data), WANTED)


def frames(count: int) -> bytes:
    file = io.BytesIO()
    pictures = [Image.new("L", (4, 6), 90 * i) for i in range(count)]
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:])
    return file.getvalue()


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (b"not an image", "truncated or not an image"),
        (encoded(PIXELS)[:60], "truncated or not an image"),
        (frames(3), "holds 3 frames, an animation"),
        (encoded(DRAW.integers(0, 2**16, (6, 4)).astype(np.uint16)), "more than 8 bits"),
        ("nowhere.png", "nowhere.png cannot be read: No such file"),
        (PIXELS[:, :, :2], "holds no RGB images"),
        (PIXELS[:, :, 0], "holds no RGB images"),
        (np.zeros(7), "holds no RGB images"),
        (PIXELS.astype(np.float32), "divide images in 256 steps by 255"),
        (PIXELS.astype(np.int64), "int64"),
        (np.full((6, 4, 3), np.nan), "NaN or infinity"),
        (7, "a int is no image"),
        (None, "a NoneType is no image"),
        ([PIXELS, 7], "a int is no image"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_image_is_one_sentence(images: object, says: str) -> None:
    with pytest.raises(DataError, match=says) as told:
        RGB.batch(images)
    assert "\n" not in str(told.value)


def test_enormous_images_are_refused_before_they_are_decoded(monkeypatch) -> None:
    monkeypatch.setenv("RECUSE_MAX_MEGAPIXELS", "0.00002")
    with pytest.raises(DataError, match="megapixels"):
        RGB.batch(encoded(PIXELS))
    monkeypatch.undo()
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    with pytest.raises(DataError, match="more than 64 megapixels"):
        RGB.batch(file.getvalue())


def test_sizes_are_refused_where_nothing_is_resized() -> None:
    form = InputForm(3, (5, 5), resize=None)
    for images in (PIXELS, encoded(PIXELS), WANTED):
        with pytest.raises(DataError, match="of 4x6 pixels does not fit: this system takes 5x5"):
            form.batch(images)
