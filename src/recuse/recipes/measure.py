"""The geometry of a run: distances between images, slopes of its networks; kept as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from recuse.data import Split, Splits
from recuse.evaluation.admission import admit
from recuse.evaluation.geometry import separations, slopes
from recuse.models.checkpoint import load_checkpoint, weights_sha256
from recuse.progress import Progress, silent
from recuse.recipes.config import RunConfig, SlopePlan
from recuse.recipes.run_location import RunLocation
from recuse.records.layout import SLOPES, separation_name
from recuse.records.run_folder import read_mapping
from recuse.records.store import write_atomically


def measure_geometry(
    config: RunConfig, splits: Splits, place: RunLocation, progress: Progress
) -> None:
    """Measure what is asked for and not there yet.

    Args:
        config: Names the distances and the slopes.
        splits: The run's own data, near which slopes are measured.
        place: Run folder; its networks are finished.
        progress: Told as work proceeds.
    """
    for plan in config.separations:
        path = place.out / plan.name / separation_name(plan.norm)
        if not path.is_file():
            data = plan.data.load(place.data_root)
            found = separations(data, plan.norm, plan.eps, limit=plan.limit, progress=progress)
            _keep(path, found.results)
    if config.slopes is not None:
        _measure_slopes(config, config.slopes, splits, place, progress)


def _measure_slopes(
    config: RunConfig, plan: SlopePlan, splits: Splits, place: RunLocation, progress: Progress
) -> None:
    parts = {"train": splits.train.head(plan.images), "test": splits.test.head(plan.images)}
    path = place.out / SLOPES
    rows: list[dict[str, Any]] = list(read_mapping(path).get("rows", ()))
    for model in config.models:
        if any(row["model"] == model.name for row in rows):
            continue
        network, card = load_checkpoint(place.checkpoint(model.name))
        # Training images are what it measures on, beside new ones.
        admitted = admit(network, card, splits.test, allow_training_data=True)
        network = admitted.network.to(place.device)
        rows.append(slope_row(network, model.name, parts, plan, progress))
        _keep(path, {"settings": slope_settings(plan, splits.test), "rows": rows})


def slope_row(
    network: nn.Module,
    name: str,
    parts: Mapping[str, Split],
    plan: SlopePlan,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Slopes of one network near each part, by every method of a plan, as JSON values."""
    row = {"model": name, "weights": weights_sha256(network)}
    for method in plan.methods:
        found = slopes(network, parts, plan.threat, method, seed=plan.seed, progress=progress)
        for part, measured in found.items():
            row[f"{part}_{method.output}"] = measured["lipschitz"]
            row[f"{part}_accuracy"] = measured["accuracy"]
    return row


def slope_settings(plan: SlopePlan, test: Split) -> dict[str, Any]:
    """What decides the slopes of a network, as JSON values."""
    method = plan.methods[0]
    return {
        "data": test.name.partition("/")[0],
        "threat": str(plan.threat),
        "steps": method.steps,
        "step_size": method.step_size,
        "images": plan.images,
        "seed": plan.seed,
    }


def _keep(path: Path, values: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(values, indent=1).encode())


__all__ = ["measure_geometry", "slope_row", "slope_settings"]
