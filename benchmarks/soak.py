"""Faults at random moments; afterwards everything must be as if nothing had happened.

``recuse train`` trains a small network on real digits, and ``recuse evaluate`` attacks it, with one
or two workers and pieces of another size at each start. Again and again something happens: a
process is killed, told to stop, deaf or silent; the disk is full, the folder read-only; finished
files are cut short or get a wrong bit; where the folder is a URL, its server is killed and away for
a while. The same command then goes on until its work is whole. Weights, cards and log are compared
byte by byte, rows by their hash, and counted. The table holds a row of rounds for each seed;
``--seed`` adds one, or makes its own anew.
"""

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from faults import (
    AT_URL,
    BEGUN_S,
    JUDGE,
    JUDGING,
    OF_WORKERS,
    TRAIN,
    TRAINED_S,
    TRAINING,
    Command,
    Process,
    cut,
)
from harness import environment
from recuse.records.hashes import record_hash
from recuse.records.places import place
from recuse.records.sealed import checksum
from recuse.records.store import read_records
from store import BUCKET, Store
from struck import CHECKPOINT, FAULTS_FOLDER

FAULTS = TRAINING, JUDGING, AT_URL
KNOWN = {name: strike for faults in FAULTS for name, (strike, _) in faults.items()}


def decks(count: int) -> list[list[str]]:
    """About so many names of faults, in random order, for each kind of work."""
    share = count / sum(often for faults in FAULTS for _, often in faults.values())
    found = [
        [name for name, (_, often) in faults.items() for _ in range(round(often * share))]
        for faults in FAULTS
    ]
    for names in found:
        random.shuffle(names)
    return found


def ended(process: Process, command: Command, struck: bool) -> bool:
    """Whether the work is whole; ends everything if a process ended as none may."""
    code, said = process.end()
    while command.locked:
        command.locked.pop().chmod(0o755)
    for path in Path(os.environ[FAULTS_FOLDER]).iterdir():
        path.unlink()
    stopped = struck and code in (2, 3, -signal.SIGKILL) and "Traceback" not in said
    if code != 0 and not stopped:
        raise SystemExit(f"exit code {code}: {said[-3000:]}")
    return code == 0


def judged(command: Command, left: list[str], counts: Counter[str]) -> None:
    """Judge to the end; whenever a piece or so is finished, the next fault strikes."""
    whole = False
    while not whole:
        of_workers = bool(left) and (left[-1] in OF_WORKERS or random.random() < 0.15)
        process, struck = command.start(*cut(2 if of_workers else 1)), False
        if random.random() < 0.3:  # the start is struck as well
            time.sleep(random.uniform(0, 2))
        else:
            wait_for_more(process, command)
        while left and process.poll() is None and (of_workers or left[-1] not in OF_WORKERS):
            if KNOWN[left[-1]](process, command):
                counts[left.pop()] += 1
                struck = True
            wait_for_more(process, command)
        whole = ended(process, command, struck)


def wait_for_more(process: Process, command: Command) -> None:
    """Wait until another piece is finished, and a moment."""
    before, deadline = len(command.files()), time.monotonic() + BEGUN_S
    while process.poll() is None and len(command.files()) == before:
        time.sleep(0.01)
        if time.monotonic() > deadline:
            return
    time.sleep(random.uniform(0, 0.3))


def trained(command: Command, left: list[str], counts: Counter[str]) -> None:
    """Train to the end; some moments after each start a fault strikes."""
    whole = False
    while not whole:
        process, struck = command.start(), False
        deadline = time.monotonic() + random.uniform(0.2, TRAINED_S)
        while left and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if left and process.poll() is None and KNOWN[left[-1]](process, command):
            counts[left.pop()] += 1
            struck = True
        whole = ended(process, command, struck)


def rows_of(out: str) -> str:
    """What was found: the hash, the rows, and how many samples they are of."""

    def read() -> None:  # in a process of its own, because forks and polars' threads do not mix
        (record,) = read_records(place(out))
        ids = record.frame["sample_id"]
        print(f"rows {len(ids)} samples {ids.n_unique()} {record_hash(record)}", file=sys.stderr)

    code, said = Process(read).end()
    if code:
        raise SystemExit(said)
    return said.strip()


def weights_of(folder: str) -> str:
    # The library that writes it orders what stands beside the weights at random.
    out = Path(folder)
    with safe_open(out / "model.safetensors", "pt") as file:
        whole = json.dumps(file.metadata(), sort_keys=True).encode()
    names = ("last.safetensors", "best.safetensors", f"{out.name}.jsonl")
    return " ".join(map(checksum, [whole, *((out / name).read_bytes() for name in names)]))


Carry = Callable[[Command, list[str], Counter[str]], None]


@dataclass
class Table:
    """What struck, round by round; written after each, so that a stopped soak leaves its own.

    Attributes:
        path: Where it is written, if anywhere; what it holds of other seeds stays.
        seed: Of these rounds.
    """

    path: Path | None
    seed: int
    parts: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    before: dict[str, Any] = field(default_factory=environment)

    def note(self, part: str, counts: Counter[str], rounds: int, whole: str) -> None:
        """Note a part's rounds, each of which left what the undisturbed run leaves."""
        struck = dict(counts.most_common())
        self.parts[part] = {"faults": struck, "rounds": rounds, "each round left": whole}
        if self.path:
            self.path.write_text(json.dumps(self.whole(), indent=1) + "\n")

    def whole(self) -> dict[str, Any]:
        """The table with the rounds of all seeds."""
        written: dict[str, Any] = {"seeds": []}
        if self.path and self.path.is_file():
            written = json.loads(self.path.read_text())
        others = [row for row in written["seeds"] if row["seed"] != self.seed]
        rows = sorted([*others, self.row()], key=lambda row: int(row["seed"]))
        struck = Counter[str]()
        for part in (part for row in rows for part in row["parts"].values()):
            struck.update(part["faults"])
        killed = sum(n for name, n in struck.items() if name.endswith("killed"))
        return {
            "faults": struck.total(),
            "kill -9": killed,
            "each": dict(struck.most_common()),
            "seeds": rows,
        }

    def row(self) -> dict[str, Any]:
        """The rounds of this seed."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "seed": self.seed,
            "parts": self.parts,
            "wall_seconds": round(time.monotonic() - self.began),
            "processor_seconds": round(used.ru_utime + used.ru_stime),
            "environment": self.before,
        }


def soak(
    table: Table,
    command: Command,
    carry_out: Carry,
    found: Callable[[str], str],
    left: list[str],
    whole: str = "",
) -> str:
    """All faults of a deck, in as many rounds as they need; what each of them left.

    Args:
        table: Where they are noted.
        command: What is carried out.
        carry_out: Does so, once and to the end.
        found: What was left, in words.
        left: The faults.
        whole: What must be left; what an undisturbed run leaves, if it is not given.
    """
    counts, rounds, part = Counter[str](), 0, command.folder.name
    if not whole:
        carry_out(command, [], counts)
        whole = found(command.out)
        command.begin_anew(kept=command.folder.with_name(f"{part}-whole"))
    while left:
        carry_out(command, left, counts)
        rounds += 1
        if (again := found(command.out)) != whole:
            raise SystemExit(f"{command.words}: {again}, undisturbed {whole}")
        command.begin_anew()
        table.note(part, counts, rounds, whole)
        print(f"{part}: {counts.total()} faults, {len(left)} left", flush=True)
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    random.seed(given.seed)
    table = Table(given.json, given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "faults").mkdir()
        os.environ[FAULTS_FOLDER] = str(folder / "faults")
        os.environ[CHECKPOINT] = str(folder / "training-whole" / "model.safetensors")
        train = Command(TRAIN, folder / "training", "*.pt")
        judge = Command(JUDGE, folder / "judging", "records/*/shard-*.parquet")
        store = Store(folder / "judging at a URL")
        at_url = Command(JUDGE, store.journal, "*-PUT", f"s3://{BUCKET}/judging", store)
        of_training, of_judging, of_url = decks(given.faults)
        soak(table, train, trained, weights_of, of_training)
        rows = soak(table, judge, judged, rows_of, of_judging)
        try:
            store.empty()
            soak(table, at_url, judged, rows_of, of_url, whole=rows)
        finally:
            store.kill()
    print(json.dumps(table.whole(), indent=1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
