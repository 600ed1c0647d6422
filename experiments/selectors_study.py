"""Every way to abstain on the same models and the same threat: CIFAR-10 at 1/255 and 2/255.

    python experiments/selectors_study.py attack      (after train and measure, if need be)

``recuse report results/selectors`` writes the page from the kept rows. ``attack`` needs
``RECUSE_DATA`` and the networks that ``recuse run cifar10_small`` leaves in ``runs/cifar10_small``.
It is resumable and bounded in time: run it until it says that it is done. Networks and unfinished
work go to ``runs/selectors``; samples and attacked rows to ``results/selectors``.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from torch import nn

from recuse.analysis.operating_points import (
    CORE,
    EPS,
    FINETUNED,
    MIXTURE,
    NETS,
    PUBLISHED,
    ROBUST,
    ROWS,
    SAMPLES,
    TRUNK,
    candidates,
    pool,
    sample_tables,
    settings,
)
from recuse.data import Cifar10, Split, find_data_root
from recuse.models import load_checkpoint, load_model
from recuse.models.prepared import prepare
from recuse.records.store import parquet_bytes, read_parquet, write_atomically

WORK, RESULTS = Path("runs/selectors"), Path("results/selectors")
CHECKPOINTS = Path("runs/cifar10_small/checkpoints")
RADII = ("1/255", "2/255", "4/255")
STARTED = time.monotonic()


def say(task: str, done: int, total: int, note: str = "") -> None:
    """Progress in lines, every tenth."""
    if total and (done == total or done * 10 % max(total, 1) < 10):
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {task} {done}/{total} {note}\n")


def train(_: argparse.Namespace) -> None:
    """The certified classifier and the selection networks, where they are missing."""
    from selectors_train import train_all

    if all((WORK / f"{name}.safetensors").exists() for name in (TRUNK, *NETS)):
        return
    parts = Cifar10().load(find_data_root())
    train_all(parts, load_model(ROBUST)[0], WORK, say)


def networks() -> dict[str, nn.Module]:
    """Every network of the comparison by name."""
    published = {name: prepare(load_model(name)[0]) for name in (CORE, *PUBLISHED)}
    paths = {name: CHECKPOINTS / f"{name}.safetensors" for name in FINETUNED}
    tuned = {
        name: prepare(load_checkpoint(path)[0]) for name, path in paths.items() if path.exists()
    }
    own = {name: load_checkpoint(WORK / f"{name}.safetensors")[0] for name in (TRUNK, *NETS)}
    return published | tuned | own


def test_images() -> Split:
    """The lossless test images."""
    return Cifar10().load_test(find_data_root())


def measure(arguments: argparse.Namespace) -> bool:
    """Attacks and bounds on every network, once per image; whether all is done."""
    from selectors_samples import columns_of, measured

    names = (CORE, *pool(), TRUNK, *NETS, MIXTURE)
    missing = [n for n in names if not (arguments.out / SAMPLES / f"{n}.parquet").exists()]
    if not missing:
        return True
    train(arguments)
    split, work, until = test_images(), columns_of(networks(), RADII), STARTED + arguments.seconds
    for done, name in enumerate(missing):
        if time.monotonic() > until:
            say("measure", done, len(missing), "run again to go on")
            return False
        measured(name, arguments.out / SAMPLES, split, work[name])
        say("measure", done + 1, len(missing), name)
    return True


def attack(arguments: argparse.Namespace) -> None:
    """The adaptive adversary on every composition, once everything is measured."""
    from selectors_attack import attack_all, left_to_meet, merged

    if not measure(arguments):
        return
    split, tables = test_images(), sample_tables(arguments.out / SAMPLES)
    kept = arguments.out / ROWS
    known = read_parquet(kept) if kept.exists() else None
    todo = [found for eps in EPS for found in settings(tables, eps, candidates(tables, eps))]
    left = {setting: left_to_meet(known, setting, split.ids) for setting in todo}
    until = STARTED + arguments.seconds
    done = attack_all(todo, networks(), split, WORK / "attacks", left, until)
    if done:
        write_atomically(kept, parquet_bytes(merged(known, WORK / "attacks")))
    say("attack", int(done), 1, "" if done else "run again to go on")


STEPS: dict[str, Callable[[argparse.Namespace], object]] = {
    "train": train,
    "measure": measure,
    "attack": attack,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--seconds", type=float, default=420.0, help="stop after about this long")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    STEPS[arguments.step](arguments)
