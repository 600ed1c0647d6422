"""Inputs that were abstained on, beside the adversarial example that made the answer move."""

import io
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image as Pixels

from recuse.errors import RecordError
from recuse.report.page.blocks import Gallery, Image, Picture

_SMALLEST_SIDE = 160
_ABSTAINED = (
    "The robust model does not answer these: a change within ε moves its answer. The "
    "perturbation is shown around grey, stretched to full contrast."
)
Row = Mapping[str, object]


def abstains(row: Row) -> str:
    """What is said of an input that was abstained on."""
    model, eps = row.get("model"), row.get("eps")
    within = f" at {str(eps).replace(':', ' ')}" if eps else ""
    who = f"{model} abstains{within}" if model else f"abstained{within}"
    saved = ", which avoids a wrong answer" if row["label"] != row["prediction"] else ""
    return f"{who}{saved} ({row['sample_id']})"


def gallery(
    frame: pl.DataFrame,
    title: str = "Inputs that were abstained on",
    caption: str = _ABSTAINED,
    saying: Callable[[Row], str] = abstains,
) -> Gallery:
    """Pictures of a ``gallery.parquet``.

    Args:
        frame: ``sample_id``, ``label``, ``prediction`` and ``image`` (PNG bytes); where known
            ``adversarial_prediction``, ``adversarial``, ``model`` and ``eps``.
        title: Heading.
        caption: What they have in common.
        saying: The words below one of them.

    Raises:
        RecordError: An image that cannot be read.
    """
    return Gallery(title, tuple(_picture(row, saying(row)) for row in frame.to_dicts()), caption)


def enlarge(png: bytes) -> bytes:
    """A PNG enlarged by a whole factor, each pixel a block, to at least 160 pixels a side.

    Raises:
        RecordError: Not an image.
    """
    image = _open(png)
    factor = max(1, -(-_SMALLEST_SIDE // min(image.size)))
    return _png(
        image.resize((image.width * factor, image.height * factor), Pixels.Resampling.NEAREST)
    )


def perturbation(png: bytes, adversarial: bytes) -> bytes:
    """The difference of two images around grey, stretched so that its largest value is full.

    Raises:
        RecordError: Not images, or of different sizes.
    """
    before, after = _array(png), _array(adversarial)
    if before.shape != after.shape:
        raise RecordError(
            f"gallery: an image of shape {before.shape} has an adversarial of {after.shape}"
        )
    difference = after - before
    largest = float(np.abs(difference).max()) or 1.0
    return _png(Pixels.fromarray((127.5 + 127.5 * difference / largest).round().astype(np.uint8)))


def _picture(row: Row, caption: str) -> Picture:
    label, answer = str(row["label"]), str(row["prediction"])
    clean = _bytes(row["image"])
    images = [Image(enlarge(clean), f"answer {answer}", f"a {label}, unperturbed")]
    adversarial = row.get("adversarial")
    if adversarial is not None:
        moved = _bytes(adversarial)
        answer_moved = str(row.get("adversarial_prediction", "another class"))
        images += [
            Image(enlarge(perturbation(clean, moved)), "perturbation", "the perturbation"),
            Image(enlarge(moved), f"answer {answer_moved}", f"a {label}, perturbed"),
        ]
    return Picture(images=tuple(images), title=f"true class {label}", caption=caption)


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise RecordError("gallery: the image column must hold PNG bytes")
    return value


def _open(png: bytes) -> Pixels.Image:
    try:
        image = Pixels.open(io.BytesIO(png))
        image.load()
    except (OSError, ValueError) as error:
        raise RecordError(f"gallery: a picture cannot be read as PNG ({error})") from error
    return image if image.mode in {"L", "RGB"} else image.convert("RGB")


def _array(png: bytes) -> npt.NDArray[np.float64]:
    return np.asarray(_open(png), dtype=np.float64)


def _png(image: Pixels.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
