"""Ways to abstain on a run's networks: measured, chosen on half the images, attacked on the rest.

What is measured of a network is a record; of mixtures and of other attacks on confidence a table
in ``samples``; and what the adversary did to each composition at its operating point goes to
``attacked.parquet``: one row an image, which is all that the page needs.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import nn

from recuse.analysis.operating_points import (
    CONFIDENT,
    CORE,
    EPS,
    MIXTURE,
    NETS,
    ROBUST,
    SHARES,
    TRUNK,
    Setting,
    candidates,
    halves,
    read_tables,
    settings,
)
from recuse.attacks import Apgd, Dlr
from recuse.composition import AdaptiveAdversary, Cascade, Core, ProbabilityMixture, Stage
from recuse.data.split import Split, Splits
from recuse.evaluation.score_stage import score_stage
from recuse.evaluation.scores import Columns, confident_columns, mixture_columns
from recuse.models.checkpoint import load_checkpoint
from recuse.models.prepared import prepare
from recuse.progress import Progress
from recuse.protocols import Selector
from recuse.random import SampleNoise
from recuse.recipes.config import AbstentionPlan, RunConfig
from recuse.recipes.run_location import RunLocation
from recuse.recipes.selection_networks import attacked_right, certified_right, selection_network
from recuse.records.layout import ATTACKED_SYSTEMS, RECORDS, SAMPLE_TABLES, UNFINISHED_SYSTEMS
from recuse.records.parquet import parquet_bytes
from recuse.records.store import read_parquet, write_atomically
from recuse.selectors import (
    EntropyResponse,
    RobustMargin,
    RobustnessIndicator,
    SelectionNetwork,
    SoftmaxResponse,
)
from recuse.threat import Threat

# For what a plain attack flatters.
RADII = ("1/255", "2/255", "4/255", "8/255")
BATCH, CHUNK = 128, 25
# Raised whenever the adversary gets stronger; 2: it knows the threshold of a margin.
ADVERSARY = 2
Networks = Mapping[str, nn.Module]


def compare_abstention(
    config: RunConfig, splits: Splits, place: RunLocation, progress: Progress
) -> None:
    """Measure, choose and attack what is asked for and not there yet.

    Args:
        config: Names the networks by what :mod:`recuse.analysis.operating_points` calls them.
        splits: The run's data; selection networks are trained on the training images.
        place: Run folder; its networks are finished.
        progress: Told as work proceeds.
    """
    plan = config.abstention
    if plan is None or (place.out / ATTACKED_SYSTEMS).is_file():
        return
    networks = _networks(config, plan, splits, place, progress)
    _measure(networks, plan, splits.test, place.out, progress)
    tables = read_tables(place.out)
    todo = [s for eps in EPS for s in settings(tables, eps, candidates(tables, eps))]
    frames = []
    for number, setting in enumerate(todo):
        progress("attack every way to abstain", number, len(todo), f"{setting.name}, {setting.eps}")
        cascade = deployed(setting, networks, plan)
        frames += _attacked(setting, cascade, plan, splits.test, place.out / UNFINISHED_SYSTEMS)
    progress("attack every way to abstain", len(todo), len(todo), "")
    rows = pl.concat(frames).sort("eps", "mechanism", "setting", "sample_id")
    write_atomically(place.out / ATTACKED_SYSTEMS, parquet_bytes(rows))


def _networks(
    config: RunConfig, plan: AbstentionPlan, splits: Splits, place: RunLocation, progress: Progress
) -> dict[str, nn.Module]:
    """Every network of the comparison by name, in eval mode."""
    names = [model.name for model in config.models]
    found = {name: load_checkpoint(place.checkpoint(name))[0].eval() for name in names}
    # Interval bounds read the network itself; the others are searched on prepared copies.
    known: dict[str, nn.Module] = {n: m if n == TRUNK else prepare(m) for n, m in found.items()}
    for name, of, right in zip(
        NETS, (ROBUST, TRUNK), (attacked_right, certified_right), strict=True
    ):
        arguments = (name, of, right, TRUNK, plan.training, splits, place, progress)
        known[name] = selection_network(*arguments).eval()
    return known


def _measure(
    networks: Networks, plan: AbstentionPlan, split: Split, out: Path, progress: Progress
) -> None:
    """Selection networks on every image, and the tables; what is there is kept."""
    for net, of in zip(NETS, (ROBUST, TRUNK), strict=True):
        stage = Stage(networks[of], SelectionNetwork(networks[net]), of)
        budget = Threat("linf", EPS[-1])
        score_stage(stage, budget, split, records=out / RECORDS, radii=EPS, progress=progress)
    robust, core = networks[ROBUST], networks[CORE]
    work: dict[str, Callable[[Split], Columns]] = {
        MIXTURE: lambda part: mixture_columns(robust, core, part, SHARES),
        CONFIDENT: lambda part: confident_columns(robust, part, RADII, plan.steps),
    }
    for number, (name, columns) in enumerate(work.items()):
        progress("measure mixtures and confidence", number, len(work), name)
        path = out / SAMPLE_TABLES / f"{name}.parquet"
        if not path.is_file():
            frames = [
                pl.DataFrame({"sample_id": part.ids, **columns(part)})
                for part in split.batches(BATCH)
            ]
            write_atomically(path, parquet_bytes(pl.concat(frames)))
    progress("measure mixtures and confidence", len(work), len(work), "")


def deployed(setting: Setting, networks: Networks, plan: AbstentionPlan) -> Cascade:
    """The composition of one operating point."""
    budget = Threat("linf", setting.eps)
    if setting.name == "robust alone":
        return Cascade((), Core(networks[ROBUST], ROBUST), budget)
    if setting.share is not None:
        members = (networks[ROBUST], networks[CORE])
        mixed = ProbabilityMixture(*members, alpha=setting.share).eval()
        return Cascade((), Core(mixed, setting.name), budget)
    stages = tuple(
        Stage(networks[model], _selector(setting, networks, model, tau, plan.steps), model)
        for model, tau in zip(setting.point.models, setting.point.thresholds, strict=True)
    )
    return Cascade(stages, Core(networks[CORE], CORE), budget)


def _selector(setting: Setting, networks: Networks, model: str, tau: float, steps: int) -> Selector:
    """How one stage of a mechanism selects."""
    budget = Threat("linf", setting.eps)
    match setting.name:
        case "indicator":
            return RobustnessIndicator(budget, Apgd(steps=steps - 1))
        case "softmax response":
            return SoftmaxResponse(tau)
        case "entropy response":
            return EntropyResponse(tau)
        case "selection network" | "selection network (ACE-IBP)":
            return SelectionNetwork(networks[NETS[model == TRUNK]], tau)
        case _:
            return RobustMargin(budget, Apgd(steps=steps), tau)


def _attacked(
    setting: Setting, cascade: Cascade, plan: AbstentionPlan, split: Split, folder: Path
) -> list[pl.DataFrame]:
    """The rows of a setting, a chunk at a time; finished chunks are read."""
    words = hashlib.sha256(setting.words.encode()).hexdigest()[:8]
    stem = f"{setting.eps.replace('/', '_')}-{setting.name.replace(' ', '_')}-{words}"
    _, report = halves(len(split))
    rows, frames = np.flatnonzero(report), []
    for number in range(0, len(rows), CHUNK):
        path = folder / stem / f"{number:05d}.parquet"
        if not path.is_file():
            part = split.take(rows[number : number + CHUNK].tolist())
            found = attacked_rows(setting, cascade, plan, part)
            write_atomically(path, parquet_bytes(found))
        frames.append(read_parquet(path))
    return frames


def attacked_rows(
    setting: Setting, cascade: Cascade, plan: AbstentionPlan, part: Split
) -> pl.DataFrame:
    """What the adversary found on a few rows, and what answering cost."""
    noise = SampleNoise(0, part.ids, "deployed")
    plain = Apgd(steps=plan.steps)
    attacks = (plain,) if cascade.stages else (plain, Apgd(steps=plan.steps, loss=Dlr()))
    adversary = AdaptiveAdversary(steps=plan.adversary_steps, attacks=attacks)
    found = adversary(cascade, part.images, part.labels, noise=noise)
    stages = len(cascade.stages)
    passed = found.abstained if stages else torch.ones(len(part), 1, dtype=torch.bool)
    return pl.DataFrame(
        {
            "eps": setting.eps,
            "mechanism": setting.name,
            "setting": setting.words,
            "sample_id": part.ids,
            "correct": found.correct.numpy(),
            "attacked": found.robust.numpy(),
            "broken_by": found.broken_by.numpy(),
            "asks_core": (found.natural.stage == stages).numpy(),
            "asks_core_attacked": found.reached_core.numpy(),
            "passed_all": passed.all(1).numpy(),
            # A mixture asks both networks; as a core of its own it counts as one.
            "cost": cascade.traced(part.images, noise=noise).cost + (setting.share is not None),
            "adversary": [ADVERSARY] * len(part),
        }
    )


__all__ = ["compare_abstention"]
