"""The adaptive adversary on every mechanism at its operating point, as it would be deployed."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import nn

from recuse.analysis.operating_points import CORE, ROBUST, Setting, halves
from recuse.attacks import Apgd, Dlr
from recuse.composition import AdaptiveAdversary, Cascade, Core, ProbabilityMixture, Stage
from recuse.data.split import Split
from recuse.protocols import Selector
from recuse.random import SampleNoise
from recuse.records.store import parquet_bytes, read_parquet, write_atomically
from recuse.selectors import (
    EntropyResponse,
    RobustMargin,
    RobustnessIndicator,
    SelectionNetwork,
    SoftmaxResponse,
)
from recuse.threat import Threat

# Raised whenever the adversary gets stronger: rows it has left standing then meet it again.
# 2: it knows the threshold of a margin, and pushes for what is answered at x'.
ADVERSARY = 2
CHUNK = 25
KEYS = ["eps", "mechanism", "setting", "sample_id"]


def deployed(setting: Setting, networks: Mapping[str, nn.Module]) -> Cascade:
    """The composition of one operating point."""
    budget = Threat("linf", setting.eps)
    if setting.name == "robust alone":
        return Cascade((), Core(networks[ROBUST], ROBUST), budget)
    if setting.share is not None:
        members = (networks[ROBUST], networks[CORE])
        mixed = ProbabilityMixture(*members, alpha=setting.share).eval()
        return Cascade((), Core(mixed, setting.name), budget)
    stages = tuple(
        Stage(networks[model], selector(setting.name, networks, model, budget, tau), model)
        for model, tau in zip(setting.point.models, setting.point.thresholds, strict=True)
    )
    return Cascade(stages, Core(networks[CORE], CORE), budget)


def selector(
    name: str, networks: Mapping[str, nn.Module], model: str, budget: Threat, tau: float
) -> Selector:
    """How one stage of a mechanism selects."""
    if name == "indicator":
        return RobustnessIndicator(budget, Apgd(steps=39))
    if name == "softmax response":
        return SoftmaxResponse(tau)
    if name == "entropy response":
        return EntropyResponse(tau)
    if name.startswith("selection network"):
        return SelectionNetwork(networks["select_adv2" if model == ROBUST else "ace_ibp"], tau)
    return RobustMargin(budget, Apgd(), tau)


def attack_all(
    todo: Sequence[Setting],
    networks: Mapping[str, nn.Module],
    split: Split,
    folder: Path,
    left: Mapping[Setting, set[str]],
    until: float,
) -> bool:
    """Attack the reporting rows that are left of each setting; whether all is done.

    Every setting gets its first chunk before any gets its second, so that what is finished can
    be compared at any time.
    """
    _, report = halves(len(split))
    rows = np.flatnonzero(report)
    for number in range(0, len(rows), CHUNK):
        for setting in todo:
            part = [r for r in rows[number : number + CHUNK] if split.ids[r] in left[setting]]
            path = folder / stem(setting) / f"{number:05d}.parquet"
            if not part or path.exists():
                continue
            if time.monotonic() > until:
                return False
            found = attacked_rows(setting, deployed(setting, networks), split.take(part))
            write_atomically(path, parquet_bytes(found))
    return True


def stem(setting: Setting) -> str:
    """Folder of one composition's attacked rows."""
    words = hashlib.sha256(setting.words.encode()).hexdigest()[:8]
    return f"{setting.eps.replace('/', '_')}-{setting.name.replace(' ', '_')}-{words}"


def attacked_rows(setting: Setting, cascade: Cascade, part: Split) -> pl.DataFrame:
    """What the adversary found on a few rows, and what answering cost."""
    noise = SampleNoise(0, part.ids, "deployed")
    plain = (Apgd(),) if cascade.stages else (Apgd(), Apgd(loss=Dlr()))
    adversary = AdaptiveAdversary(steps=20, attacks=plain)
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


def left_to_meet(known: pl.DataFrame | None, setting: Setting, ids: Sequence[str]) -> set[str]:
    """Images of a setting that nothing has broken and that this adversary has not met."""
    if known is None:
        return set(ids)
    done = (pl.col("adversary") >= ADVERSARY) | ~pl.col("attacked")
    mine = known.filter(pl.col(k) == v for k, v in keys(setting).items()).filter(done)
    return set(ids) - set(mine["sample_id"])


def keys(setting: Setting) -> dict[str, str]:
    """What names a setting in the rows."""
    return {"eps": setting.eps, "mechanism": setting.name, "setting": setting.words}


def merged(known: pl.DataFrame | None, folder: Path) -> pl.DataFrame:
    """The kept rows, made worse by what was found since: what was broken once is broken."""
    frames = [read_parquet(path) for path in sorted(folder.glob("*/*.parquet"))]
    if known is None or not frames:
        return pl.concat(frames).sort(*KEYS) if known is None else known
    fresh = pl.concat(frames)
    both = known.join(fresh, on=KEYS, how="left", suffix="_now", maintain_order="left")
    broken = pl.col("attacked") & ~pl.col("attacked_now").fill_null(value=True)
    worse = both.with_columns(
        broken_by=pl.when(broken).then("broken_by_now").otherwise("broken_by"),
        attacked=pl.col("attacked") & ~broken,
        asks_core_attacked=pl.col("asks_core_attacked")
        | pl.col("asks_core_attacked_now").fill_null(value=False),
        passed_all=pl.col("passed_all") | pl.col("passed_all_now").fill_null(value=False),
        adversary=pl.max_horizontal("adversary", "adversary_now"),
    ).select(known.columns)
    unknown = fresh.join(known, on=KEYS, how="anti").select(known.columns)
    return pl.concat([worse, unknown]).sort(*KEYS)
