"""What the benchmarks share: alternate timing, rows, the table, JSON, and where the data lie.

Every script runs ours and the anchor in turn (A, B, A, B, ...) in one process, so that both meet
the same machine; ratios are of medians. They run on one thread unless ``--threads`` says otherwise,
whatever the environment says. Pass counts are exact and are what a gate may fail on.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recuse.data.cifar import Cifar10
from recuse.data.roots import find_data_root
from recuse.data.split import Split
from recuse.models.zoo import load_model
from recuse.recipes.environment import processor

REPEATS = 5


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Stable name; gates refer to it.
        ours: Our cost: seconds, or passes per sample.
        anchor: The anchor's cost in the same unit.
        ratio: How many times cheaper ours is (or the quantity the goal speaks of).
        goal: What ``ratio`` must reach; for ``kind="passes"`` and ``"mismatches"`` what ``ours``
            must not exceed.
        kind: ``"time"``, ``"passes"``, ``"mismatches"`` or ``"share"``.
        detail: Whatever else a reader needs: pass counts, times of every run, the cause of a miss.
    """

    name: str
    ours: float
    anchor: float
    ratio: float
    goal: float
    kind: str = "time"
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        if self.kind in ("passes", "mismatches"):
            return self.ours <= self.goal
        return self.ratio >= self.goal


@dataclass(frozen=True)
class Timing:
    """Seconds of each run of two programs that ran in turn.

    Attributes:
        ours: By :func:`clock`.
        anchor: By :func:`clock`.
        ours_wall: By the clock on the wall.
        anchor_wall: By the clock on the wall.
    """

    ours: tuple[float, ...]
    anchor: tuple[float, ...]
    ours_wall: tuple[float, ...] = ()
    anchor_wall: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        """How many times faster ours is, by medians."""
        return statistics.median(self.anchor) / statistics.median(self.ours)

    def row(self, name: str, goal: float, **detail: Any) -> Row:
        """A ``time`` row with both medians, and every single time in its detail."""
        ours, anchor = statistics.median(self.ours), statistics.median(self.anchor)
        times: dict[str, Any] = {
            "ours_seconds": [round(t, 4) for t in self.ours],
            "anchor_seconds": [round(t, 4) for t in self.anchor],
            "ratio_of_minima": round(min(self.anchor) / min(self.ours), 3),
        }
        if self.ours_wall:
            wall = statistics.median(self.anchor_wall) / statistics.median(self.ours_wall)
            times["ratio_on_the_wall"] = round(wall, 3)
        return Row(name, ours, anchor, self.ratio, goal, "time", {**detail, **times})


def clock() -> float:
    """Seconds to measure by: of the processor on one thread, of the wall otherwise.

    On one thread, what other programs take of a shared machine is no part of ours; with several
    threads or a GPU, processor time would add up what ran at once.
    """
    return time.process_time() if by_processor() else time.perf_counter()


def by_processor() -> bool:
    """Whether :func:`clock` is the processor's."""
    return torch.get_num_threads() == 1 and not torch.cuda.is_available()


def seconds(work: Callable[[], Any]) -> float:
    """Seconds of one call by :func:`clock`, a GPU's queue included."""
    return _both_clocks(work)[0]


def _both_clocks(work: Callable[[], Any]) -> tuple[float, float]:
    _wait()
    wall, begin = time.perf_counter(), clock()
    work()
    _wait()
    return clock() - begin, time.perf_counter() - wall


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternate(
    ours: Callable[[], Any],
    anchor: Callable[[], Any],
    *,
    repeats: int = REPEATS,
    warm_up: Callable[[], Any] | None = None,
) -> Timing:
    """Time two programs in turn: ours, anchor, ours, anchor, ...

    Args:
        ours: Our program.
        anchor: What it is measured against.
        repeats: Runs of each.
        warm_up: Run once before; by default nothing, as callers checked both results before.
    """
    if warm_up is not None:
        warm_up()
    pairs = [(_both_clocks(ours), _both_clocks(anchor)) for _ in range(repeats)]
    return Timing(
        ours=tuple(a[0] for a, _ in pairs),
        anchor=tuple(b[0] for _, b in pairs),
        ours_wall=tuple(a[1] for a, _ in pairs),
        anchor_wall=tuple(b[1] for _, b in pairs),
    )


def machine() -> str:
    """Name of the processor, and of the accelerator if there is one."""
    names = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return ", ".join(map(processor, names))


def environment() -> dict[str, Any]:
    """What the numbers depend on: machine, threads, load, versions."""
    return {
        "processor": machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "clock": "processor" if by_processor() else "wall",
        "load": [round(value, 2) for value in os.getloadavg()],
        "torch": torch.__version__,
        "amx_bf16": bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()),
    }


def options(description: str) -> argparse.ArgumentParser:
    """The command line that every benchmark has; one thread unless more are asked for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--threads", type=int, default=1)
    return parser


def run_script(run: Callable[[int], list[Row]], description: str) -> None:
    """The command line of a benchmark: print environment and table, write JSON.

    Args:
        run: Takes the number of repeats and returns the rows.
        description: One line for ``--help``.
    """
    chosen = options(description).parse_args()
    report(lambda: run(chosen.repeats), chosen.threads, chosen.json)


def report(run: Callable[[], list[Row]], threads: int, json_file: Path | None) -> None:
    """Pin the threads, print environment and table, write JSON."""
    torch.set_num_threads(threads)
    before = environment()
    print(
        f"{before['processor']}, {before['threads']} threads, load {before['load']}, "
        f"{before['clock']} time"
    )
    rows = run()
    print_table(rows)
    if json_file:
        write_rows(json_file, rows, before)


def write_rows(path: Path, rows: list[Row], before: dict[str, Any]) -> None:
    """Write the rows as JSON, with the environment before and the load after."""
    after = [round(value, 2) for value in os.getloadavg()]
    listed = [{**asdict(row), "ok": row.ok} for row in rows]
    text = json.dumps({"environment": {**before, "load_after": after}, "rows": listed}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text + "\n")
    partial.replace(path)


def print_table(rows: list[Row]) -> None:
    """Print the rows for a person."""
    width = max((len(row.name) for row in rows), default=4)
    print(f"{'name':{width}}  {'ours':>10} {'anchor':>10} {'ratio':>8} {'goal':>8}  ok")
    for row in rows:
        mark = "yes" if row.ok else "MISS"
        numbers = f"{row.ours:10.4g} {row.anchor:10.4g} {row.ratio:8.3g} {row.goal:8.3g}"
        print(f"{row.name:{width}}  {numbers}  {mark}")
        if "cause" in row.detail:
            print(f"{'':{width}}  {row.detail['cause']}")


def shared_model(name: str) -> nn.Module:
    """A pretrained network of the models folder, in eval mode."""
    return load_model(name)[0].eval()


def predictions(model: nn.Module, x: Tensor, batch: int = 128) -> Tensor:
    """Predicted labels."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(batch)])


def cifar_test(n: int, kind: Literal["lossless", "jpeg"] = "lossless") -> Split:
    """The first ``n`` CIFAR-10 test images of the data folder."""
    return Cifar10(test=kind).load_test(find_data_root()).head(n)
