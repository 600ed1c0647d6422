"""Decision maps of classifiers of the plane, stored for the report (which runs no network)."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from recuse.data.split import Split
from recuse.records.layout import REGIONS
from recuse.records.schema import Record, radius_column
from recuse.records.store import write_atomically


def write_regions(
    folder: Path,
    models: Mapping[str, nn.Module],
    split: Split,
    records: Sequence[Record],
    *,
    eps: float,
    grid: int,
) -> None:
    """Evaluate each model on a grid of the unit square and keep classes, points and verdicts.

    The file holds ``names`` [models], ``classes`` [models, grid, grid] (row = second
    coordinate, ascending), ``points`` [n, 2], ``labels`` [n], ``label_names``, ``accurate`` and
    ``robust`` [models, n] at ``eps``.

    Args:
        folder: Where ``regions.npz`` goes.
        models: Name to model, all with a record.
        split: The judged points.
        records: Verdicts on them.
        eps: Radius of the verdicts shown.
        grid: Points per side.
    """
    by_name = {record.meta.model: record.frame for record in records}
    side = torch.linspace(0, 1, grid)
    rows, columns = torch.meshgrid(side, side, indexing="ij")
    square = torch.stack([columns.flatten(), rows.flatten()], dim=1)
    order = np.argsort(np.array(split.ids))
    with torch.no_grad():
        classes = [model(square).argmax(dim=1).view(grid, grid) for model in models.values()]
    robust = radius_column("robust", eps)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        names=np.array(list(models)),
        classes=torch.stack(classes).to(torch.int8).numpy(),
        points=split.images.numpy()[order],
        labels=split.labels.numpy()[order],
        label_names=np.array(split.label_names),
        accurate=np.stack([by_name[name]["accurate"].to_numpy() for name in models]),
        robust=np.stack([by_name[name][robust].fill_null(False).to_numpy() for name in models]),
        eps=np.array(eps),
    )
    write_atomically(folder / REGIONS, buffer.getvalue())
