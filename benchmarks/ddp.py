"""Training steps of a ResNet-18 in two processes against one, one thread each, over gloo.

    python benchmarks/ddp.py --json ddp.json

Both take the same steps on the same global batch; the first losses must agree. Seconds are of the
wall, without start-up, and mean something only where two cores are free (the load is in the JSON);
``ratio_by_processor`` divides the processor's seconds of one process by those of the busiest of
two, which is what the wall would show if nobody else computed.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import torch

from harness import Row, cifar_test, options, report
from recuse.models import ResNet, build_seeded
from recuse.protocols import Objective
from recuse.threat import Threat
from recuse.training import Robust, Standard, TrainConfig
from recuse.training.batches import Batches
from recuse.training.forward import Trainee
from recuse.training.processes import Processes
from recuse.training.steps import differentiate

OBJECTIVES: dict[str, Objective] = {"standard": Standard(), "trades": Robust()}
GOAL = 1.7
# Relative, of the loss before the first step: attacks turn rounding of fp32 into signs of small
# gradients. Tests compare gradients in fp64, where both agree to 1e-10.
AGREE = 0.01


def steps(name: str, rows: int, count: int) -> dict[str, float]:
    """Seconds of one process for so many steps, after one that warms up; and the first loss."""
    torch.set_num_threads(1)
    split = cifar_test(rows)
    model = build_seeded(ResNet(depth=18, size=32, classes=10), 0)
    processes = Processes.on(torch.device("cpu"))
    config = TrainConfig(OBJECTIVES[name], Threat("linf", "8/255"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    (batch,) = Batches(split, rows, seed=0).epoch(0, deal=processes.deal(1))
    trainee = Trainee(model)
    for number in range(count + 1):
        if number == 1:
            begun, wall = time.process_time(), time.perf_counter()
        sums = differentiate(
            trainee, batch, config, progress=0.0, epoch=number, parts=1, processes=processes
        )
        if number == 0:
            loss = float(sums["loss"]) / rows
        optimizer.step()
    return {
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - begun,
        "loss": loss,
    }


def launched(processes: int, *arguments: str) -> list[dict[str, float]]:
    """What each of so many processes measured."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    peers = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--steps", *arguments],
            env=os.environ | peers | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
        )
        for rank in range(processes)
    ]
    found = [json.loads(process.communicate()[0]) for process in started]
    assert not any(process.returncode for process in started)
    return found


def compare(name: str, rows: int, count: int, repeats: int) -> Row:
    """Two processes and one, in turn."""
    pairs = []
    for _ in range(repeats):
        two, one = (launched(n, name, str(rows), str(count)) for n in (2, 1))
        if abs(two[0]["loss"] / one[0]["loss"] - 1) > AGREE:
            raise SystemExit(f"{name}: the losses differ")
        pairs.append((two, one[0]))

    def slowest(kind: str) -> tuple[list[float], list[float]]:
        return [max(p[kind] for p in two) for two, _ in pairs], [one[kind] for _, one in pairs]

    (ours, anchor), (own, alone) = slowest("wall"), slowest("processor")
    detail: dict[str, Any] = {"rows": rows, "steps": count, "wall": {"two": ours, "one": anchor}}
    detail |= {"processor": {"two": own, "one": alone}}
    detail["ratio_by_processor"] = statistics.median(alone) / statistics.median(own)
    mine, theirs = statistics.median(ours), statistics.median(anchor)
    row = Row(f"ddp {name}: two processes against one", mine, theirs, theirs / mine, GOAL)
    return replace(row, detail=detail)


def run(repeats: int, rows: int) -> list[Row]:
    return [
        compare("standard", 4 * rows, 2, repeats),
        compare("trades", rows, 1, repeats),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--steps"]:
        print(json.dumps(steps(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
        sys.exit()
    chosen = options(__doc__ or "")
    chosen.add_argument("--rows", type=int, default=64, help="of a step with an attack")
    chosen.set_defaults(repeats=3)
    given = chosen.parse_args()
    report(lambda: run(given.repeats, given.rows), given.threads, given.json)
