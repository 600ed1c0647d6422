"""The adaptive adversary on every mechanism at its operating point, as it would be deployed."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from selectors_points import (
    GRID,
    Mask,
    Point,
    Tables,
    best,
    compose,
    core_of,
    sweep,
    sweep_pairs,
)
from torch import nn

from recuse.attacks import Apgd, Dlr
from recuse.composition import (
    AdaptiveAdversary,
    Cascade,
    ConfidenceShaping,
    Core,
    ProbabilityMixture,
    Stage,
)
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

CORE, ROBUST, TRUNK = "cifar10_resnet56_std", "cifar10_resnet4b_adv2", "ibp_small"
PUBLISHED = (ROBUST, "cifar10_cnn_a_mix", "cifar10_cnn_a_adv_alt")
FINETUNED = Path("runs/cifar10_small/checkpoints")
LOSS = 0.01
CHUNK = 25
SHARES = tuple(np.round(np.linspace(0.0, 1.0, 41), 3).tolist())


@dataclass(frozen=True, eq=False)
class Deployed:
    """A composition as deployed, with its point where the sound accounting knows one.

    Attributes:
        name: Row of the table.
        cascade: What is attacked.
        setting: Thresholds or weights, in words.
        point: Natural answers and sound bound per sample, if there is an accounting for it.
    """

    name: str
    cascade: Cascade
    setting: str
    point: Point | None


def finetuned() -> dict[str, Path]:
    """Networks that ``recuse run cifar10_small`` fine-tuned, where it has been run."""
    return {
        path.stem: path
        for path in sorted(FINETUNED.glob("*.safetensors"))
        if path.stem.startswith(("era", "trades"))
    }


def pool() -> tuple[str, ...]:
    """Every robust network that may become a stage."""
    return (*PUBLISHED, *finetuned())


def halves(count: int) -> tuple[Mask, Mask]:
    """Rows on which thresholds are chosen, and rows on which results are reported."""
    even = np.arange(count) % 2 == 0
    return even, ~even


def chosen_points(tables: Tables, eps: str) -> dict[str, Point | None]:
    """The operating point of each mechanism that has a sound accounting."""
    core = core_of(tables[CORE], eps)
    rows, _ = halves(len(core.accurate))
    pairs = sweep_pairs(tables, CORE, eps, "robust margin", pool())
    singles = sweep(tables, CORE, eps, "robust margin", pool())
    candidates = {
        "robust margin": singles,
        "cascade of two": [*pairs, *singles],
        "softmax response": sweep(tables, CORE, eps, "softmax response", pool()),
        "selection network": sweep(tables, CORE, eps, "selection network", [ROBUST]),
        "selection network (ACE-IBP)": sweep(tables, CORE, eps, "selection network", [TRUNK]),
    }
    fixed = {"indicator": compose(tables, CORE, eps, "indicator", [(ROBUST, 0.0)])}
    return fixed | {name: best(p, rows, core, loss=LOSS) for name, p in candidates.items()}


def entropy_threshold(tables: Tables) -> float:
    """The most permissive entropy that keeps the natural accuracy on the choosing half."""
    stage, core = tables[ROBUST], tables[CORE]
    rows, _ = halves(len(stage))
    score, right = stage["negative_entropy"].to_numpy(), stage["accurate"].to_numpy()
    fallback = core["accurate"].to_numpy()
    wanted = fallback[rows].mean() - LOSS
    for tau in np.quantile(score, np.linspace(0, 1, 10 * GRID, endpoint=False)):
        if np.where(score >= tau, right, fallback)[rows].mean() >= wanted:
            return float(tau)
    return 0.0


@torch.no_grad()
def mixture_share(networks: Mapping[str, nn.Module], split: Split, shaping: bool) -> float:
    """The largest weight of the robust model that keeps the natural accuracy, same half."""
    rows, _ = halves(len(split))
    part = split.take(np.flatnonzero(rows).tolist())
    robust = torch.cat([networks[ROBUST](b.images) for b in part.batches(128)])
    standard = torch.cat([networks[CORE](b.images) for b in part.batches(128)])
    wanted = float((standard.argmax(1) == part.labels).double().mean()) - LOSS
    kept = [0.0]
    for share in SHARES:
        mixed = _mixed(nn.Identity(), nn.Identity(), share, shaping=shaping)
        p = mixed.shaping(robust).softmax(1) * share + standard.softmax(1) * (1 - share)
        if float((p.argmax(1) == part.labels).double().mean()) >= wanted:
            kept.append(share)
    return max(kept)


def _mixed(
    robust: nn.Module, standard: nn.Module, share: float, *, shaping: bool
) -> ProbabilityMixture:
    shape = ConfidenceShaping() if shaping else None
    return ProbabilityMixture(robust, standard, alpha=share, shaping=shape).eval()


def deployed(
    tables: Tables, networks: Mapping[str, nn.Module], split: Split, eps: str
) -> list[Deployed]:
    """Everything that is attacked at one radius."""
    budget = Threat("linf", eps)

    def of(name: str, point: Point | None) -> Deployed | None:
        if point is None:
            return None
        stages = tuple(
            Stage(networks[m], _selector(name, networks, m, budget, tau), m)
            for m, tau in zip(point.models, point.thresholds, strict=True)
        )
        words = ", ".join(
            f"{m} at {t:.3g}" for m, t in zip(point.models, point.thresholds, strict=True)
        )
        return Deployed(name, Cascade(stages, Core(networks[CORE], CORE), budget), words, point)

    def single(name: str, network: nn.Module, words: str = "") -> Deployed:
        return Deployed(name, Cascade((), Core(network, name), budget), words, None)

    tau = entropy_threshold(tables)
    stage = Stage(networks[ROBUST], EntropyResponse(min(tau, 0.0)), ROBUST)
    entropy = Cascade((stage,), Core(networks[CORE], CORE), budget)
    mixtures = [
        single(
            name,
            _mixed(networks[ROBUST], networks[CORE], share, shaping=shaping),
            f"weight {share:g}",
        )
        for name, shaping in (("mixture", False), ("mixture (shaped)", True))
        for share in [mixture_share(networks, split, shaping)]
    ]
    composed = [of(name, point) for name, point in chosen_points(tables, eps).items()]
    return [
        Deployed(
            "core alone",
            Cascade((), Core(networks[CORE], CORE), budget),
            "",
            compose(tables, CORE, eps, "indicator", []),
        ),
        single("robust alone", networks[ROBUST]),
        *(d for d in composed if d is not None),
        Deployed("entropy response", entropy, f"{ROBUST} at {tau:.3g}", None),
        *mixtures,
    ]


def _selector(
    name: str, networks: Mapping[str, nn.Module], model: str, budget: Threat, tau: float
) -> Selector:
    if name.startswith("indicator"):
        return RobustnessIndicator(budget, Apgd(steps=39))
    if name == "softmax response":
        return SoftmaxResponse(tau)
    if name.startswith("selection network"):
        return SelectionNetwork(networks["select_adv2" if model == ROBUST else "ace_ibp"], tau)
    return RobustMargin(budget, Apgd(), tau)


def attack_all(
    todo: Mapping[str, list[Deployed]], split: Split, folder: Path, *, count: int, until: float
) -> bool:
    """Attack the first ``count`` reporting rows of each, in chunks; whether all is done.

    All compositions get their first chunk before any gets its second, so that what is finished
    can be compared at any time.
    """
    _, report = halves(len(split))
    rows = np.flatnonzero(report)[:count]
    for number in range(0, len(rows), CHUNK):
        part = split.take(rows[number : number + CHUNK].tolist())
        for eps, entries in todo.items():
            for entry in entries:
                path = folder / stem(entry, eps) / f"{number:05d}.parquet"
                if path.exists():
                    continue
                if time.monotonic() > until:
                    return False
                write_atomically(path, parquet_bytes(attacked_rows(entry, part)))
    return True


def stem(entry: Deployed, eps: str) -> str:
    """Folder of one composition's attacked rows."""
    setting = hashlib.sha256(entry.setting.encode()).hexdigest()[:8]
    return f"{eps.replace('/', '_')}-{entry.name.replace(' ', '_')}-{setting}"


def attacked_rows(entry: Deployed, part: Split) -> pl.DataFrame:
    """What the adversary found on a few rows, and what answering cost."""
    noise = SampleNoise(0, part.ids, "deployed")
    plain = (Apgd(),) if entry.cascade.stages else (Apgd(), Apgd(loss=Dlr()))
    adversary = AdaptiveAdversary(steps=20, attacks=plain)
    started = time.monotonic()
    found = adversary(entry.cascade, part.images, part.labels, noise=noise)
    seconds = time.monotonic() - started
    natural = entry.cascade.traced(part.images, noise=noise)
    core = len(entry.cascade.stages)
    return pl.DataFrame(
        {
            "sample_id": part.ids,
            "correct": found.correct.numpy(),
            "attacked": found.robust.numpy(),
            "broken_by": found.broken_by.numpy(),
            "stage": found.natural.stage.numpy(),
            "asks_core": (found.natural.stage == core).numpy(),
            "asks_core_attacked": found.reached_core.numpy(),
            "passed_all": found.abstained.all(1).numpy() if core else np.ones(len(part), bool),
            "passed_first": found.abstained[:, 0].numpy() if core else np.zeros(len(part), bool),
        }
    ).with_columns(
        pl.lit(natural.cost).alias("cost"),
        pl.lit(seconds / len(part)).alias("seconds"),
    )


def results(entry: Deployed, eps: str, folder: Path) -> pl.DataFrame | None:
    """All finished rows of one composition."""
    files = sorted((folder / stem(entry, eps)).glob("*.parquet"))
    frames = [read_parquet(path) for path in files]
    return pl.concat(frames) if frames else None
