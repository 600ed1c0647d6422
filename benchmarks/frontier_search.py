"""The search over every mechanism: twenty networks, a hundred thresholds each, two stages.

As ``recuse cascade search`` does it: all mechanisms together, and each alone beside them.
Records are made up, as large as those of a whole test set; no network runs. Processor seconds and
the largest memory of the process stand beside the goal. Wall-clock seconds are those of a machine
that may have other work.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

from recuse.analysis.cascade_pool import build_pool
from recuse.analysis.cascade_splits import search_splits
from recuse.analysis.frontier import ahead, only
from recuse.analysis.mechanism_pool import MECHANISMS
from recuse.records.schema import Record, RecordMeta, make_record

EPS, DOUBLED, TRIPLED = "1/255", "2/255", "3/255"
GOAL_SECONDS, GOAL_MEMORY = 60.0, 4.0
CLASSES = 10


def network(name: str, seed: int, samples: int, *, sure: float, moves: float, role: str) -> Record:
    """A network whose p_y at x is drawn, and that an attack moves by a share of what is drawn."""
    rng = np.random.default_rng(seed)
    p = np.clip(rng.normal(sure, 0.25, samples), 0.001, 0.999)
    drop = moves * rng.random(samples)
    near, double, triple = (np.clip(p - k * drop, 0.0005, 0.9995) for k in (1, 2, 3))
    right = p > HALF
    columns = {
        "sample_id": np.char.zfill(np.arange(samples).astype(str), 6).tolist(),
        "accurate": right,
        "confidence": np.maximum(p, 1 - p),
        "margin": 2 * p - 1,
        "entropy": -p * np.log(p) - (1 - p) * np.log(1 - p),
        "score": p,
        f"worst_margin@{EPS}": 2 * near - 1,
        f"worst_confidence@{EPS}": 1 - near,
        f"least_confidence@{EPS}": near,
        f"largest_entropy@{EPS}": _entropy(near),
        f"least_score@{EPS}": near,
        f"largest_score@{EPS}": np.minimum(1, p + drop),
    }
    for radius, least in ((EPS, near), (DOUBLED, double), (TRIPLED, triple)):
        holds = (least > HALF) | ~right
        columns[f"robust@{radius}"] = holds
        columns[f"stable_margin@{radius}"] = np.where(holds, np.abs(2 * least - 1), -1.0)
        columns[f"stable_confidence@{radius}"] = np.where(holds, np.maximum(least, 1 - least), 0.0)
    radii = (EPS, DOUBLED, TRIPLED)
    meta = RecordMeta(name, "made-up/test", "apgd-ce", "linf", radii, name, tags={"role": role})
    return make_record(meta, columns)


HALF = 0.5


def _entropy(least: np.ndarray) -> np.ndarray:
    p = np.maximum(least, 1 / CLASSES)
    return -p * np.log(p) - (1 - p) * np.log((1 - p) / (CLASSES - 1))


def measure(networks: int, thresholds: int, samples: int, splits: int, budget: int) -> dict:
    """Seconds and memory of building the pool and searching it."""
    rng = np.random.default_rng(0)
    records = [network("core", 1, samples, sure=0.9, moves=1.5, role="core")]
    records += [
        network(
            f"robust-{i}",
            100 + i,
            samples,
            sure=float(rng.uniform(0.65, 0.85)),
            moves=float(rng.uniform(0.2, 0.5)),
            role="robust",
        )
        for i in range(networks)
    ]
    began, wall = time.process_time(), time.perf_counter()
    pool = build_pool(
        records, dataset="made-up", eps=EPS, mechanisms=MECHANISMS, thresholds=thresholds
    )
    built = time.process_time() - began
    how = {"max_natural_loss": 0.025, "max_stages": 2, "splits": splits, "budget": budget}
    result = search_splits(pool, **how)
    together = time.process_time() - began
    each = {name: search_splits(only(pool, name), **how) for name in pool.mechanisms}
    lead = ahead(result, each)
    seconds = time.process_time() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "networks": networks,
        "stages": len(pool.names),
        "mixtures": len(pool.mixtures),
        "samples": samples,
        "splits": splits,
        "budget": budget,
        "seconds_to_build": round(built, 2),
        "seconds_together": round(together, 2),
        "processor_seconds": round(seconds, 2),
        "wall_clock_seconds": round(time.perf_counter() - wall, 2),
        "largest_memory_gib": round(memory, 3),
        "goal": {"processor_seconds": GOAL_SECONDS, "largest_memory_gib": GOAL_MEMORY},
        "met": seconds <= GOAL_SECONDS and memory <= GOAL_MEMORY,
        "proven_best": sum(split.optimal for split in result.splits),
        "sound": round(result.mean.sound, 4),
        "ahead_alone": lead,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    for name, default in (
        ("networks", 20),
        ("thresholds", 100),
        ("samples", 10_000),
        ("splits", 20),
        ("budget", 100),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = vars(parser.parse_args())
    path = given.pop("json")
    found = json.dumps(measure(**given), indent=1)
    print(found)
    if path is not None:
        path.write_text(f"{found}\n")


if __name__ == "__main__":
    main()
