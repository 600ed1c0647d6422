"""Certified decisions against CERTIFY: draws by exact dynamic programming, and wall clock.

Draws: the expected number per input over a published certification log (500 inputs, a ResNet-110
at sigma 0.12; every input is taken at its printed vote share, abstentions at 0.40), at the level
that includes the class weights. CERTIFY draws 100,100 for every input. Without the log the same
is computed on a list of shares that is built here and named in the rows; the goals are those of
the log.

Time: real images and a pretrained network through both programs in this process; the goal
is that the time saved is at least 85 % of the draws saved.
"""

import bisect
import csv
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from harness import Row, cifar_test, clock, run_script, shared_model
from recuse.certify import Cohen, GroupSequential
from recuse.certify.bounds import betting_log_wealth
from recuse.certify.tables import (
    OperatingPoint,
    StoppingTable,
    make_table,
    needed_probability,
    operating_point,
)
from recuse.data.roots import find_data_root
from recuse.models.prepared import prepare
from recuse.random import SampleNoise

SIGMA = 0.12
ALPHA = 0.001
FIXED, CHOICE = 100_000, 100
LOG = "cohen_resnet110_sigma012.csv"
ABSTAINED = 0.40
GOALS = {0.12: (1250, 95), 0.25: (2000, 60)}
# Times fewer draws than adaptive sampling in three stages, and than betting; per radius.
STAGES, STAGE_CHOICE, STAGE_BETA = (1000, 10_000, 125_000), 100, 1e-4
STAGED_GOALS = {0.12: 4.0, 0.25: 3.3}
BETTING_GOALS = {0.12: 1.9, 0.25: 1.6}
BETTING_BETA, BETTING_GROWTH = 0.01, 1.02
CERTIFICATES_LOST = 0.1
INPUTS = 16
WALL_CLOCK_SHARE = 0.85
# Noise under which this network still answers, and a radius that is hard for some inputs.
MODEL, MODEL_SIGMA, MODEL_EPS = "cifar10_cnn_a_mix", 0.08, 0.12

Shares = NDArray[np.float64]


def published_shares() -> tuple[Shares, str]:
    """Vote shares of the top class of 500 inputs, and where they come from."""
    root = find_data_root()
    path = None if root is None else Path(root).parent / "reference" / LOG
    if path is None or not path.is_file():
        tail = stats.beta.ppf((np.arange(500) + 0.5) / 500, 1.2, 0.1)
        return np.round(tail, 5), "synthetic: quantiles of Beta(1.2, 0.1)"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    listed = [ABSTAINED if int(r["predict"]) < 0 else float(r["p_hat"]) for r in rows]
    return np.array(listed), LOG


def draw_rows(eps: float) -> list[Row]:
    """Mean draws, and certificates kept, at one radius."""
    shares, source = published_shares()
    values, counts = np.unique(shares, return_counts=True)
    test = GroupSequential(SIGMA, alpha=ALPHA)
    p0 = needed_probability(eps, SIGMA)
    level = test.alpha * test.guess_weight
    table = make_table(p0, level, test.n_max, beta=test.beta, growth=test.growth)
    points = [operating_point(table, float(p)) for p in values]
    samples, kept = totals(points, counts)
    fixed = stats.binom.isf(ALPHA, FIXED, p0) + 1
    cohen = float(stats.binom.sf(fixed - 1, FIXED, values) @ counts)
    most, stretch = GOALS[eps]
    anchor = FIXED + CHOICE
    detail: dict[str, Any] = {
        "inputs": source,
        "stretch_ratio": stretch,
        "level": table.level,
        "allowed": level,
        "looks": len(table.looks),
    }
    name = f"draws/eps={eps:g}"
    return [
        Row(name, samples, anchor, anchor / samples, most, "passes", detail),
        Row(
            f"certificates/eps={eps:g}",
            kept,
            cohen,
            kept / cohen,
            1 - CERTIFICATES_LOST / cohen,
            "share",
            {"inputs": source, "lost": cohen - kept},
        ),
        *rival_rows(eps, values, counts, samples),
    ]


def totals(points: list[OperatingPoint], counts: NDArray[np.int64]) -> tuple[float, float]:
    """Mean draws per input and expected certificates."""
    drawn = sum(o.samples * int(c) for o, c in zip(points, counts, strict=True))
    kept = sum(o.claim * int(c) for o, c in zip(points, counts, strict=True))
    return drawn / int(counts.sum()), kept


def rival_rows(eps: float, values: Shares, counts: NDArray[np.int64], ours: float) -> list[Row]:
    """Other sequential methods, by the same exact computation."""
    p0 = needed_probability(eps, SIGMA)
    rivals = {
        "staged": ([staged(float(p), p0) for p in values], STAGED_GOALS[eps]),
        "betting": (
            [operating_point(betting_table(p0), float(p)) for p in values],
            BETTING_GOALS[eps],
        ),
    }
    rows = []
    for name, (points, goal) in rivals.items():
        samples, kept = totals(points, counts)
        detail = {"certificates": kept}
        rows.append(
            Row(f"draws/{name}/eps={eps:g}", ours, samples, samples / ours, goal, "share", detail)
        )
    return rows


def staged(p: float, p0: float) -> OperatingPoint:
    """Stages of fresh draws, each tested by Clopper-Pearson at its share of alpha.

    Source: Horvath et al., ICLR 2022, adaptive sampling with the settings of its code.
    """
    open_, samples, claim = 1.0, 0.0, 0.0
    for stage, n in enumerate(STAGES, start=1):
        samples += open_ * (n + STAGE_CHOICE)
        accept = stats.binom.sf(stats.binom.isf(ALPHA / len(STAGES), n, p0), n, p)
        hopeless = stats.binom.ppf(STAGE_BETA / (len(STAGES) - 1), n, p0) - 1
        reject = stats.binom.cdf(hopeless, n, p) if stage < len(STAGES) else 1 - accept
        claim += open_ * accept
        open_ *= max(1 - accept - reject, 0.0)
    return OperatingPoint(claim=float(claim), samples=float(samples))


@cache
def betting_table(p0: float) -> StoppingTable:
    """The truncated-mixture bet as thresholds, looked at every 2 % more draws up to CERTIFY's n."""
    looks, n = [8], 8.0
    while n * BETTING_GROWTH < FIXED:
        n = max(n * BETTING_GROWTH, n + 1)
        looks.append(int(n))
    looks.append(FIXED)

    def wins(votes: int, n: int, p: float, level: float) -> bool:
        wealth = float(betting_log_wealth(torch.tensor([votes]), n, p)[0])
        return wealth >= -math.log(level)

    accept = [
        bisect.bisect_left(range(n + 1), True, key=lambda k, n=n: wins(k, n, p0, ALPHA))
        for n in looks
    ]
    fails = [
        bisect.bisect_left(range(n + 1), True, key=lambda k, n=n: wins(k, n, 1 - p0, BETTING_BETA))
        for n in looks
    ]
    reject = [min(n - f, a - 1) for n, f, a in zip(looks, fails, accept, strict=True)]
    reject[-1] = accept[-1] - 1
    return StoppingTable(p0, ALPHA, tuple(looks), tuple(accept), tuple(reject), math.nan)


def wall_clock_rows(repeats: int) -> list[Row]:
    """Seconds of both programs on real images, against the draws they made."""
    split = cifar_test(INPUTS)
    model = prepare(shared_model(MODEL))
    noise = SampleNoise(0, split.ids, "benchmark")
    ours = GroupSequential(MODEL_SIGMA, alpha=ALPHA)
    anchor = Cohen(MODEL_SIGMA, FIXED, CHOICE, alpha=ALPHA)

    def run(certifier: GroupSequential | Cohen) -> tuple[Certificate, float]:
        begin = clock()
        found = certifier.decide(model, split.images, (MODEL_EPS,), noise=noise)
        return found, clock() - begin

    run(ours)
    pairs = [(run(ours), run(anchor)) for _ in range(min(repeats, 2))]
    quick, slow = pairs[0][0][0], pairs[0][1][0]
    drawn = float(quick.samples.double().mean()), float(slow.samples.double().mean())
    seconds = [float(np.median([pair[i][1] for pair in pairs])) for i in (0, 1)]
    differing = int((quick.certified != slow.certified).sum())
    detail = {
        "model": MODEL,
        "inputs": INPUTS,
        "draws": drawn,
        "draw_ratio": drawn[1] / drawn[0],
        "seconds": [[round(pair[i][1], 3) for pair in pairs] for i in (0, 1)],
        "decisions_that_differ": differing,
    }
    ratio = seconds[1] / seconds[0]
    share = ratio / (drawn[1] / drawn[0])
    return [
        Row("wall clock", seconds[0], seconds[1], ratio, 50.0, "time", detail),
        Row("wall clock saved / draws saved", *seconds, share, WALL_CLOCK_SHARE, "share", detail),
    ]


def run(repeats: int) -> list[Row]:
    """All rows."""
    rows = [row for eps in GOALS for row in draw_rows(eps)]
    if find_data_root() is not None:
        rows += wall_clock_rows(repeats)
    return rows


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    run_script(run, __doc__.splitlines()[0] if __doc__ else "")
