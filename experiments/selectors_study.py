"""Every way to abstain on the same models and the same threat: CIFAR-10 at 1/255 and 2/255.

Resumable and bounded in time; run the first until it says that the attack is done:

    python experiments/selectors_study.py attack      (after train and measure, if need be)
    python experiments/selectors_study.py tables

Needs ``RECUSE_DATA``. Networks and unfinished work go to ``runs/selectors``; samples, tables and
figures to ``results/selectors``.
"""

import argparse
import sys
import time
from pathlib import Path

import polars as pl
from selectors_attack import (
    CORE,
    PUBLISHED,
    ROBUST,
    TRUNK,
    attack_all,
    deployed,
    finetuned,
    pool,
)
from selectors_report import refuted, write_all
from selectors_samples import (
    PLAIN,
    attacked_columns,
    certified_columns,
    core_columns,
    measured,
    selection_columns,
)
from selectors_tables import EPS
from selectors_train import train_all
from torch import nn

from recuse.data import Cifar10, Split, find_data_root
from recuse.models import load_checkpoint, load_model
from recuse.models.prepared import prepare

WORK, RESULTS = Path("runs/selectors"), Path("results/selectors")
SAMPLES, ATTACKS = RESULTS / "samples", RESULTS / "attacks"
RADII = ("1/255", "2/255", "4/255")
NETS = ("select_adv2", "ace_ibp")
STARTED = time.monotonic()


def say(task: str, done: int, total: int, note: str = "") -> None:
    """Progress in lines, every tenth."""
    if total and (done == total or done * 10 % max(total, 1) < 10):
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {task} {done}/{total} {note}\n")


def train(_: argparse.Namespace) -> None:
    """The certified classifier and the selection networks, where they are missing."""
    if all((WORK / f"{name}.safetensors").exists() for name in (TRUNK, *NETS)):
        return
    parts = Cifar10().load(find_data_root())
    train_all(parts, load_model(ROBUST)[0], WORK, say)


def networks() -> dict[str, nn.Module]:
    """Every network of the comparison by name."""
    published = {name: prepare(load_model(name)[0]) for name in (CORE, *PUBLISHED)}
    tuned = {name: prepare(load_checkpoint(path)[0]) for name, path in finetuned().items()}
    own = {name: load_checkpoint(WORK / f"{name}.safetensors")[0] for name in (TRUNK, *NETS)}
    return published | tuned | own


def test_images() -> Split:
    """The lossless test images."""
    return Cifar10().load_test(find_data_root())


def measure(arguments: argparse.Namespace) -> bool:
    """Attacks and bounds on every network, once per image; whether all is done."""
    train(arguments)
    split, known, until = test_images(), networks(), STARTED + arguments.seconds
    work = {
        CORE: lambda part: core_columns(known[CORE], part, EPS),
        ROBUST: lambda part: attacked_columns(known[ROBUST], part, (*RADII, "8/255"), ("", *PLAIN)),
        **{n: lambda part, n=n: attacked_columns(known[n], part, RADII) for n in pool()[1:]},
        TRUNK: lambda part: (
            attacked_columns(known[TRUNK], part, RADII)
            | dict(certified_columns(known[TRUNK], part, RADII))
        ),
        **{n: lambda part, n=n: selection_columns(known[n], part, EPS) for n in NETS},
    }
    for done, (name, columns) in enumerate(work.items()):
        if time.monotonic() > until:
            say("measure", done, len(work), "run again to go on")
            return False
        measured(name, SAMPLES, split, columns)
        say("measure", done + 1, len(work), name)
    return True


def sample_tables() -> dict[str, pl.DataFrame]:
    """The measured samples of every network."""
    names = (CORE, *pool(), TRUNK, *NETS)
    return {name: pl.read_parquet(SAMPLES / f"{name}.parquet") for name in names}


def attack(arguments: argparse.Namespace) -> None:
    """The adaptive adversary on every composition, once everything is measured."""
    if not measure(arguments):
        return
    split, known, tables = test_images(), networks(), sample_tables()
    until = STARTED + arguments.seconds
    todo = {eps: deployed(tables, known, split, eps) for eps in EPS}
    done = attack_all(todo, split, ATTACKS, count=arguments.count, until=until)
    say("attack", int(done), 1, "" if done else "run again to go on")


def tables(_: argparse.Namespace) -> None:
    """Report, figures and numbers from what was measured and attacked."""
    split, known, measured_tables = test_images(), networks(), sample_tables()
    todo = {eps: deployed(measured_tables, known, split, eps) for eps in EPS}
    corrected = refuted(measured_tables, todo, ATTACKS)
    # Deployed anew: the same settings, but with the bounds of the corrected core.
    todo = {eps: deployed(corrected, known, split, eps) for eps in EPS}
    write_all(todo, corrected, ATTACKS, RESULTS, WORK)


STEPS = {"train": train, "measure": measure, "attack": attack, "tables": tables}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--seconds", type=float, default=420.0, help="stop after about this long")
    parser.add_argument("--count", type=int, default=200, help="images under the adversary")
    arguments = parser.parse_args()
    STEPS[arguments.step](arguments)
