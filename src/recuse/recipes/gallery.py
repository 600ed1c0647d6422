"""Pictures for the report: inputs a stage abstains on, each with what moved its answer."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor, nn

from recuse.data.split import Split
from recuse.evaluation import Evaluation
from recuse.random import SampleNoise
from recuse.records.layout import GALLERY_PICTURES
from recuse.records.parquet import parquet_bytes
from recuse.records.schema import Record, radius_column
from recuse.records.store import write_atomically
from recuse.threat import Threat

_IMAGE = 3


def write_gallery(
    folder: Path,
    model: nn.Module,
    split: Split,
    record: Record,
    evaluation: Evaluation,
    *,
    eps: float,
    count: int,
) -> None:
    """Attack ``count`` inputs on which ``model`` abstains at ``eps`` again and keep the pictures.

    Wrong answers come first: those are the ones abstention saved.

    Args:
        folder: Where ``gallery.parquet`` goes.
        model: The model that abstains, in eval mode.
        split: The judged images.
        record: Its verdicts.
        evaluation: What it was judged by.
        eps: Radius of the robustness indicator.
        count: How many inputs.
    """
    abstained = record.frame.filter(~pl.col(radius_column("robust", eps)).fill_null(False))
    chosen = abstained.sort("accurate", "sample_id")["sample_id"].head(count).to_list()
    frame = attacked_pictures(model, split, chosen, evaluation, name=record.meta.model, eps=eps)
    if frame is not None:
        write_atomically(folder / GALLERY_PICTURES, parquet_bytes(frame))


def pictures(model: nn.Module, split: Split, ids: Sequence[str]) -> pl.DataFrame | None:
    """Inputs with their true class and what the model answers; None where none is an image."""
    if len(split.shape) != _IMAGE or not ids:
        return None
    part = _taken(split, ids)
    return pl.DataFrame(
        {
            "sample_id": list(part.ids),
            "label": [part.label_names[i] for i in part.labels.tolist()],
            "prediction": _answers(model, part.images.to(_device(model)), part),
            "image": [png_bytes(image) for image in part.images],
        }
    )


def attacked_pictures(
    model: nn.Module,
    split: Split,
    ids: Sequence[str],
    evaluation: Evaluation,
    *,
    name: str,
    eps: float,
) -> pl.DataFrame | None:
    """:func:`pictures` of those inputs whose answer a new attack moves, beside what moved it.

    Args:
        model: In eval mode.
        split: The judged images.
        ids: Which of them.
        evaluation: Its attack is run again.
        name: Of the model.
        eps: The attacker's radius.
    """
    frame = pictures(model, split, ids)
    if frame is None:
        return None
    part, ball = _taken(split, ids), Threat(evaluation.norm, eps)
    x = part.images.to(_device(model))
    with torch.no_grad():
        clean = model(x).argmax(dim=1)
    noise = SampleNoise(evaluation.seed, part.ids, "evaluate")
    found = evaluation.attack(model, x, clean, ball, noise=noise)
    moved = pl.DataFrame(
        {
            "adversarial_prediction": _answers(model, found.x_adv, part),
            "model": [name] * len(part),
            "eps": [f"{evaluation.norm}:{ball.radius}"] * len(part),
            "adversarial": [png_bytes(image) for image in found.x_adv.cpu()],
        }
    )
    return frame.hstack(moved).filter(found.success.cpu().numpy())


def _taken(split: Split, ids: Sequence[str]) -> Split:
    return split.take([split.ids.index(i) for i in ids])


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _answers(model: nn.Module, x: Tensor, part: Split) -> list[str]:
    """Names of what the model answers; it may know classes that the data lack."""
    names = dict(enumerate(part.label_names))
    with torch.no_grad():
        return [names.get(i, str(i)) for i in model(x).argmax(dim=1).tolist()]


def png_bytes(image: Tensor) -> bytes:
    """A ``[channels, height, width]`` image in [0, 1] as PNG bytes."""
    pixels = (image * 255).round().to(torch.uint8).numpy()
    array = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()
