"""Pictures for the report: inputs a stage abstains on, each with what moved its answer."""

import io
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor, nn

from recuse.arrays import Labels
from recuse.data.split import Split
from recuse.evaluation import Evaluation
from recuse.random import SampleNoise
from recuse.records.layout import GALLERY_PICTURES
from recuse.records.parquet import parquet_bytes
from recuse.records.schema import Record, radius_column
from recuse.records.store import write_atomically
from recuse.results import AttackOutcome
from recuse.threat import Threat


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
    if len(split.shape) != 3:
        return
    abstained = record.frame.filter(~pl.col(radius_column("robust", eps)).fill_null(False))
    chosen = abstained.sort("accurate", "sample_id")["sample_id"].head(count).to_list()
    if not chosen:
        return
    part = split.take([split.ids.index(i) for i in chosen])
    threat = Threat(evaluation.norm, eps)
    clean, found, moved = _moved(model, part, evaluation, threat)
    frame = pl.DataFrame(
        {
            "sample_id": list(part.ids),
            "label": [part.label_names[i] for i in part.labels.tolist()],
            "prediction": [part.label_names[i] for i in clean.tolist()],
            "adversarial_prediction": [part.label_names[i] for i in moved.tolist()],
            "model": [record.meta.model] * len(part),
            "eps": [f"{threat.norm}:{threat.radius}"] * len(part),
            "image": [png_bytes(image) for image in part.images],
            "adversarial": [png_bytes(image) for image in found.x_adv.cpu()],
        }
    )
    write_atomically(
        folder / GALLERY_PICTURES, parquet_bytes(frame.filter(found.success.cpu().numpy()))
    )


def _moved(
    model: nn.Module, part: Split, evaluation: Evaluation, threat: Threat
) -> tuple[Labels, AttackOutcome, Labels]:
    """Answers before the attack, what it found, and the answers after it."""
    x = part.images.to(next(model.parameters()).device)
    with torch.no_grad():
        clean = model(x).argmax(dim=1)
    noise = SampleNoise(evaluation.seed, part.ids, "evaluate")
    found = evaluation.attack(model, x, clean, threat, noise=noise)
    with torch.no_grad():
        return clean, found, model(found.x_adv).argmax(dim=1)


def png_bytes(image: Tensor) -> bytes:
    """A ``[channels, height, width]`` image in [0, 1] as PNG bytes."""
    pixels = (image * 255).round().to(torch.uint8).numpy()
    array = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()
