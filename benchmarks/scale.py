"""What judging costs per image and stage, and what a thousand workers make of it.

Seconds of a pass are measured here, on one thread, by processor time; passes per image are those
of committed records; the rest comes from other benchmarks' files. Shards of images whose passes
are resampled from the records are then handed to simulated workers by the very schedule that hands
them to real ones, with slow and lost and silent workers at a stated rate. docs/scale.md holds what
:func:`tables` makes of the JSON.
"""

import heapq
import json
import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from harness import environment, options, seconds
from recuse.engine import Retries
from recuse.engine.scheduling import LOOK_S, Done, Lost, Schedule
from recuse.records.schema import RecordMeta
from recuse.records.store import Shards, read_records

RESULTS = Path(__file__).parents[1] / "results"
RECORDS = "runs/cifar10_small"
NETWORKS = {"a robust network": "trades", "an undefended network": "core"}
SIDE, IMAGES, BATCH, MODELS = 224, 50_000, 4, 10
WORKERS = (1, 10, 100, 300, 1000)
SHARDS = (4, 16, 64)
# What is assumed, because nobody measured it here.
GPU_PASSES, NODE_CORES, NODE_GPUS, BUSY, INPUTS = 1000.0, 64, 8, 0.7, 1e9
IMAGE_KB = 100.0
MARK = "<!-- benchmarks/scale.py -->"
# Files of benchmarks whose ratios the page shows beside their goals.
REAL = ("engine", "ray", "ddp", "memory")
COARSE_S = 60.0  # between looks for silent workers, which is nothing beside an hour


@dataclass(frozen=True)
class Faults:
    """How often something goes wrong.

    Attributes:
        slow: Share of pieces that meet a slow machine.
        slower: How many times longer those take.
        lost_per_day: Times a day that each worker is lost.
        silent: Share of pieces that never come back.
    """

    slow: float = 0.01
    slower: float = 4.0
    lost_per_day: float = 1.0
    silent: float = 1e-4


NONE = Faults(0.0, 1.0, 0.0, 0.0)


@dataclass
class Simulated:
    """Workers whose pieces are the seconds that they take.

    Attributes:
        draw: Of what goes wrong.
        faults: How often.
        start: Seconds until a new worker computes.
        serial: Seconds of the driver a piece: sending it, keeping its rows.
    """

    draw: np.random.Generator
    faults: Faults
    start: float
    serial: float
    now: float = 0.0
    lost: int = 0
    idle: int = 0
    silent: set[int] = field(default_factory=set)
    busy: list[tuple[float, int, Done | Lost]] = field(default_factory=list)
    begun: int = 0

    def begin(self, piece: float) -> int:
        self.begun += 1
        self.now += self.serial
        begins = self.now if self.idle else self.now + self.start
        self.idle = max(0, self.idle - 1)
        slow, silent, gone = self.draw.random(3)
        takes = piece * (self.faults.slower if slow < self.faults.slow else 1.0)
        rate = self.faults.lost_per_day / 86_400
        life = -np.log1p(-gone) / rate if rate else np.inf
        if silent < self.faults.silent:
            self.silent.add(self.begun)
        elif life < takes:
            heapq.heappush(self.busy, (begins + life, self.begun, Lost("lost")))
        else:
            heapq.heappush(self.busy, (begins + takes, self.begun, Done(piece)))
        return self.begun

    def finished(self, timeout: float) -> Sequence[tuple[int, Done | Lost]]:
        waits = timeout
        if timeout == LOOK_S and self.busy:  # nothing is due but what comes back, or is given up
            waits = COARSE_S if self.silent else np.inf
        if not self.busy or self.busy[0][0] > self.now + waits:
            self.now += waits
            return []
        at, number, outcome = heapq.heappop(self.busy)
        self.now = max(at, self.now)
        self.idle += isinstance(outcome, Done)
        self.lost += isinstance(outcome, Lost)
        return [(number, outcome)]

    def give_up(self, number: int) -> None:
        self.silent.discard(number)
        self.busy = [entry for entry in self.busy if entry[1] != number]
        heapq.heapify(self.busy)
        self.lost += 1


def simulate(
    pieces: Sequence[float],
    workers: int,
    faults: Faults,
    measured: dict[str, Any],
    seed: int = 0,
) -> dict[str, Any]:
    """Hours until all pieces are done, and the share of the workers' time that computed them."""
    start, serial = measured["worker_start"], measured["driver_per_piece"]
    crew = Simulated(np.random.default_rng(seed), faults, start, serial)
    schedule = Schedule(crew, workers, Retries(), lambda _: None, clock=lambda: crew.now)
    count = sum(1 for _ in schedule.results(pieces))
    assert count == len(pieces)
    return {
        "workers": workers,
        "hours": round(crew.now / 3600, 4),
        "efficiency": round(sum(pieces) / (workers * crew.now), 4),
        "lost": crew.lost,
    }


def pass_seconds() -> dict[str, float]:
    """Processor seconds of a ResNet-50 at 224 pixels an image: a forward pass, a gradient too."""
    from recuse.torchvision_shim import load_torchvision

    models = load_torchvision("torchvision.models", purpose="an ImageNet network")
    network = models.resnet50().eval().requires_grad_(False)
    x = torch.rand(BATCH, 3, SIDE, SIDE)
    seconds(lambda: network(x))
    forward = min(seconds(lambda: network(x)) for _ in range(3))

    def gradient() -> None:
        leaf = x.clone().requires_grad_()
        value = nn.functional.cross_entropy(network(leaf), torch.zeros(BATCH, dtype=torch.int64))
        torch.autograd.grad(value, leaf)

    both = min(seconds(gradient) for _ in range(3))
    return {"forward": forward / BATCH, "backward": (both - forward) / BATCH}


def driver_seconds(size: int) -> float:
    """What the driver spends on a piece of so many images: packing it, keeping its rows."""
    images = torch.rand(size, 3, SIDE, SIDE)
    sent = min(seconds(lambda: pickle.loads(pickle.dumps(images, protocol=5))) for _ in range(3))
    rows = attacked()["core"].head(size)
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards.of(Path(folder), RecordMeta("m", "d/test", "apgd", "linf", ("1/255",)))
        kept = min(seconds(lambda: shards.append(rows)) for _ in range(3))
    return sent + kept


def attacked() -> dict[str, pl.DataFrame]:
    """The committed rows of attacked networks, by name."""
    found = read_records(RESULTS / RECORDS)
    return {r.meta.model: r.frame for r in found if "forwards" in r.frame.columns}


def passes() -> dict[str, dict[str, np.ndarray]]:
    """Forward and backward passes of every image of a committed record, by network."""
    found = attacked()
    return {
        told: {kind: found[name][kind].to_numpy() for kind in ("forwards", "backwards")}
        for told, name in NETWORKS.items()
    }


def bench(name: str, row: str) -> dict[str, Any]:
    """A row of another benchmark's file."""
    rows = json.loads((RESULTS / "bench" / f"{name}.json").read_text())["rows"]
    (found,) = (entry for entry in rows if entry["name"] == row)
    return dict(found)


def measure() -> dict[str, Any]:
    """What everything else is computed from."""
    packs = list((RESULTS / RECORDS / "records").rglob("*.parquet"))
    rows = sum(record.frame.height for record in read_records(RESULTS / RECORDS))
    indicator = bench("indicator", "indicator stream resnet4b 4/255")
    served = bench("serving", "serving over HTTP, seconds an image")
    driver = driver_seconds(SHARDS[1])
    return {
        "pass": pass_seconds(),
        "worker_start": bench("serving", "first prediction of a new process, seconds")["ours"],
        "driver_per_piece": driver,
        "images_per_second": SHARDS[1] / driver,
        "bytes_per_row": sum(path.stat().st_size for path in packs) / rows,
        "indicator_seconds": indicator["ours"] / indicator["detail"]["inputs"],
        "indicator_passes": bench("indicator", "indicator stream resnet4b 4/255: passes")["ours"],
        "served_seconds": served["ours"],
    }


def judging(measured: dict[str, Any]) -> dict[str, Any]:
    """Ten networks of ImageNet's size on its validation images at three radii."""
    cost, found = measured["pass"], passes()
    per_image = {
        told: counts["forwards"] * cost["forward"] + counts["backwards"] * cost["backward"]
        for told, counts in found.items()
    }
    worst = per_image["a robust network"]
    draw = np.random.default_rng(0)
    curves = []
    for size in SHARDS:
        pieces = draw.choice(worst, (IMAGES // size, size)).sum(1).tolist()
        for faults in (NONE, Faults()):
            rows = [simulate(pieces, n, faults, measured) for n in WORKERS]
            curves.append({"images": size, "faults": faults is not NONE, "rows": rows})
    total = float(worst.mean()) * IMAGES * MODELS
    evaluations = sum(float(c.mean()) for c in found["a robust network"].values())
    return {
        "passes": {t: {k: float(v.mean()) for k, v in c.items()} for t, c in found.items()},
        "seconds_per_image": {told: float(v.mean()) for told, v in per_image.items()},
        "core_hours": total / 3600,
        "gpu_hours": evaluations * IMAGES * MODELS / GPU_PASSES / 3600,
        "rows_megabytes": IMAGES * MODELS * measured["bytes_per_row"] / 1e6,
        "curves": curves,
    }


def inference(measured: dict[str, Any]) -> dict[str, Any]:
    """A billion inputs a day behind an indicator."""
    rate, answer = INPUTS / 86_400, 230  # bytes of a row of JSON
    robust = measured["indicator_passes"]
    return {
        "inputs_per_second": rate,
        "cores_small": rate * measured["served_seconds"] / BUSY,
        "gpus_large": rate * robust / GPU_PASSES / BUSY,
        "gigabits_in": rate * IMAGE_KB * 8e3 / 1e9,
        "answers_gigabytes": INPUTS * answer / 1e9,
    }


def ratios() -> list[dict[str, Any]]:
    """What was measured of the engine, of training in two processes and of memory."""
    files = [RESULTS / "bench" / f"{name}.json" for name in REAL]
    rows = [row for file in files for row in json.loads(file.read_text())["rows"]]
    return [{k: row[k] for k in ("name", "ratio", "goal")} for row in rows]


def run() -> dict[str, Any]:
    before, measured = environment(), measure()
    return {
        "environment": before,
        "measured": measured,
        "real": ratios(),
        "judging": judging(measured),
        "inference": inference(measured),
    }


def table(head: str, *rows: str) -> str:
    return "\n".join([head, "|".join(["", *(head.count("|") - 1) * ["---"], ""]), *rows])


def tables(found: dict[str, Any]) -> str:
    """What docs/scale.md says in numbers."""
    m, j, i = found["measured"], found["judging"], found["inference"]
    cost = table(
        "| what | measured | by |",
        f"| forward pass of a ResNet-50, 224 pixels | {m['pass']['forward']:.3f} s | this script |",
        f"| gradient by the image on top of it | {m['pass']['backward']:.3f} s | this script |",
        *(
            f"| passes of {who} an image, three radii | {n['forwards']:.1f} forward, "
            f"{n['backwards']:.1f} backward | rows of `results/{RECORDS}` |"
            for who, n in j["passes"].items()
        ),
        *(
            f"| so, {who} of that size an image | {s:.1f} s | product |"
            for who, s in j["seconds_per_image"].items()
        ),
        f"| a check by an indicator, small ResNet, 32 pixels | {m['indicator_passes']:.1f} passes, "
        f"{1000 * m['indicator_seconds']:.1f} ms | `results/bench/indicator.json` |",
        f"| an answer of a served system of two networks | {1000 * m['served_seconds']:.0f} ms | "
        "`results/bench/serving.json` |",
        f"| a new worker until it computes | {m['worker_start']:.1f} s | the same |",
        f"| the driver on a piece of {SHARDS[1]} images of 224 pixels | "
        f"{1000 * m['driver_per_piece']:.1f} ms | this script |",
        f"| a row of a packed record | {m['bytes_per_row']:.1f} bytes | `results/{RECORDS}` |",
    )
    real = table(
        "| what | ratio | goal |",
        *(f"| {r['name']} | {r['ratio']:.2f} | {r['goal']:.2f} |" for r in found["real"]),
    )
    curve = table(
        "| workers | " + " | ".join(map(curve_name, j["curves"])) + " |",
        *(
            f"| {n:,} | "
            + " | ".join(f"{100 * c['rows'][k]['efficiency']:.0f} %" for c in j["curves"])
            + " |"
            for k, n in enumerate(WORKERS)
        ),
    )
    nodes = -(-j["core_hours"] // (NODE_CORES * 24))
    plan = table(
        "| | judging | answering |",
        "| what | ImageNet validation, 10 robust ResNet-50, three radii | 10⁹ inputs a day, an "
        "indicator each |",
        f"| processors | {j['core_hours']:,.0f} core hours: a day on {nodes:.0f} nodes of "
        f"{NODE_CORES} cores | small system: {i['cores_small']:,.0f} cores, "
        f"{-(-i['cores_small'] // NODE_CORES):.0f} such nodes |",
        f"| GPUs, at an assumed {GPU_PASSES:,.0f} passes a second | {j['gpu_hours']:.0f} GPU hours:"
        f" {j['gpu_hours'] / NODE_GPUS:.1f} hours on one node of {NODE_GPUS} | ResNet-50: "
        f"{i['gpus_large']:,.0f} GPUs, {-(-i['gpus_large'] // NODE_GPUS):.0f} nodes |",
        f"| storage | {j['rows_megabytes']:.1f} MB of rows | {i['answers_gigabytes']:,.0f} GB of "
        "answers a day as JSON lines |",
        f"| traffic | {m['images_per_second']:,.0f} images a second at most through one driver | "
        f"{i['inputs_per_second']:,.0f} inputs a second, {i['gigabits_in']:.1f} Gbit/s at "
        f"{IMAGE_KB:.0f} kB |",
    )
    return "\n\n".join([cost, real, curve, plan])


def curve_name(curve: dict[str, Any]) -> str:
    return f"{curve['images']} images a piece" + (", faults" if curve["faults"] else "")


def write_page(page: Path, found: dict[str, Any]) -> None:
    """Put the tables where the page holds the last ones, one after the other."""
    parts = page.read_text("utf-8").split(MARK)
    for place, text in zip(range(1, len(parts), 2), tables(found).split("\n\n"), strict=True):
        parts[place] = f"\n{text}\n"
    page.write_text(MARK.join(parts), "utf-8")


if __name__ == "__main__":
    parser = options(__doc__ or "")
    parser.add_argument(
        "--page",
        type=Path,
        help="put the tables of --json here, with what other benchmarks have found since",
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.page:
        found = json.loads(given.json.read_text()) | {"real": ratios()}
        write_page(given.page, found)
    else:
        found = run()
    given.json.write_text(json.dumps(found, indent=1) + "\n")
