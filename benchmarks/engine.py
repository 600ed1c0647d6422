"""Two worker processes against one, and one against none: what the engine brings and costs.

``--ray`` takes one worker of Ray against none instead, on a cluster that is started for the work.

A real network is attacked on real images, at radii so small that hardly any attack ends early, and
in shards that take half a minute each (0.48 s an image where this was written), as where an engine
is worth its start-up, which is included: eight minutes in all. Seconds are those of the wall, so
that rows mean something only where the load (in the JSON) is low. The records must be hash-equal.
"""

import tempfile
import time
from pathlib import Path

from harness import Row, alternate, cifar_test, options, report, shared_model
from recuse.attacks import Apgd
from recuse.data.split import Split
from recuse.engine import Engine, InProcess, Processes, RayTasks
from recuse.evaluation import Evaluation, evaluate
from recuse.records.hashes import record_hash

NETWORK = "cifar10_resnet56_std"
SHARDS = 4


def judged(split: Split, engine: Engine) -> str:
    """Hash of the record that an engine computes, in a new folder."""
    radii = (0.1 / 255, 0.2 / 255)
    plan = Evaluation("linf", radii, Apgd(steps=40), batch_size=33, recheck=None)
    with tempfile.TemporaryDirectory() as folder:
        record = evaluate(
            shared_model(NETWORK), split, plan, name="net", records=Path(folder), engine=engine
        )
    return record_hash(record)


def compare(
    name: str, split: Split, ours: Engine, anchor: Engine, repeats: int, goal: float
) -> Row:
    """One engine against another."""
    hashes: set[str] = set()
    timing = alternate(
        lambda: hashes.add(judged(split, ours)),
        lambda: hashes.add(judged(split, anchor)),
        repeats=repeats,
    )
    if len(hashes) > 1:
        raise SystemExit(f"{name}: the records differ")
    wall = sum(timing.anchor_wall) / sum(timing.ours_wall)
    seconds = {"ours": timing.ours_wall, "anchor": timing.anchor_wall}
    return Row(
        name,
        sum(timing.ours_wall) / repeats,
        sum(timing.anchor_wall) / repeats,
        wall,
        goal,
        detail={"images": len(split), "wall_seconds": seconds, "network": NETWORK},
    )


def run(repeats: int, images: int, ray: bool) -> list[Row]:
    split = cifar_test(images)
    size = -(-images // SHARDS)
    two, one, here = Processes(2, size), Processes(1, size), InProcess(size)
    if ray:
        row = compare(
            "engine Ray, one worker against none",
            split,
            RayTasks(1, shard_size=size),
            here,
            repeats,
            goal=0.95,
        )
        begun = time.perf_counter()
        assert list(RayTasks(1).map(eval, ["1"], told=print)) == [1]
        row.detail["start_seconds"] = round(time.perf_counter() - begun, 1)
        return [row]
    return [
        compare("engine two workers against one", split, two, one, repeats, goal=1.8),
        compare("engine one worker against none", split, one, here, repeats, goal=0.97),
    ]


if __name__ == "__main__":
    chosen = options(__doc__ or "")
    chosen.add_argument("--images", type=int, default=264)
    chosen.set_defaults(repeats=1)
    chosen.add_argument("--ray", action="store_true")
    given = chosen.parse_args()
    report(lambda: run(given.repeats, given.images, given.ray), given.threads, given.json)
