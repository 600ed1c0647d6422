"""Faults at random moments; afterwards the rows must be those of an undisturbed run.

``recuse evaluate`` with two workers attacks a small network on real digits, again and again. Each
time something happens to it: its driver or a worker is killed, it is told to stop, a second driver
starts in the same folder, or, between two starts, a finished shard is cut short or gets a wrong
bit. The same command then goes on (with ``--repair``) until the record is whole, which is compared
by ``recuse records hash``. The table says what struck how often, and what was lost.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from harness import environment
from recuse.models import SmallConvNet, build_seeded, card_for, normalized, save_checkpoint

IMAGES, SHARD, RADIUS = 1200, 20, "linf:0.1"
BEGUN_S = 90.0
RECUSE = str(Path(sys.executable).with_name("recuse"))
Struck = Callable[[subprocess.Popen[bytes], Path], bool]


def command(folder: Path, out: Path, *more: str) -> list[str]:
    """The evaluation, as typed."""
    words = ["evaluate", str(folder / "net.safetensors"), "--data", "digits", "--part", "all"]
    plan = ["--threat", RADIUS, "--attack", "apgd(steps=60)", "--limit", str(IMAGES)]
    cut = ["--workers", "2", "--shard-size", str(SHARD), "--device", "cpu", "--out", str(out)]
    return [RECUSE, *words, *plan, *cut, *more]


def start(folder: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command(folder, out, *more), stdout=quiet, stderr=subprocess.PIPE)


def hashed(out: Path) -> str:
    words = [RECUSE, "records", "hash", str(out)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[0]


def children(process: subprocess.Popen[bytes]) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in path.read_text().split()] if path.is_file() else []


def kill_driver(process: subprocess.Popen[bytes], out: Path) -> bool:
    process.kill()
    return True


def kill_worker(process: subprocess.Popen[bytes], out: Path) -> bool:
    found = children(process)
    if found:
        os.kill(random.choice(found), signal.SIGKILL)
    return bool(found)


def terminate(process: subprocess.Popen[bytes], out: Path) -> bool:
    process.terminate()
    return True


def shards(out: Path) -> list[Path]:
    return sorted(out.glob("records/*/shard-*.parquet"))


def truncate(process: subprocess.Popen[bytes], out: Path) -> bool:
    """Stop it, and cut a finished shard short."""
    return stopped(process) and damage(out, lambda data: data[: random.randrange(len(data))])


def flip(process: subprocess.Popen[bytes], out: Path) -> bool:
    """Stop it, and turn one bit of a finished shard around."""

    def turned(data: bytes) -> bytes:
        at = random.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]

    return stopped(process) and damage(out, turned)


def stopped(process: subprocess.Popen[bytes]) -> bool:
    process.kill()
    process.wait()
    return True


def damage(out: Path, change: Callable[[bytes], bytes]) -> bool:
    found = shards(out)
    if found:
        path = random.choice(found)
        path.write_bytes(change(path.read_bytes()))
    return bool(found)


FAULTS: dict[str, Struck] = {
    "driver killed": kill_driver,
    "worker killed": kill_worker,
    "driver told to stop": terminate,
    "shard cut short": truncate,
    "bit of a shard flipped": flip,
}


def disturb(folder: Path, out: Path, counts: Counter[str], wanted: int) -> None:
    """Run to the end, with a fault each time a run has got a little further."""
    while True:
        rival = start(folder, out, "--repair") if random.random() < 0.1 else None
        process, before = start(folder, out, "--repair"), len(shards(out))
        deadline = time.monotonic() + BEGUN_S
        while process.poll() is None and len(shards(out)) <= before and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(random.random())
        if process.poll() is None and sum(counts.values()) < wanted:
            name = random.choice(list(FAULTS))
            counts[name] += FAULTS[name](process, out)
        _, told = process.communicate()
        if rival is not None:
            counts["second driver in the folder"] += 1
            rival.communicate()
        if process.returncode == 0:
            return
        if process.returncode not in (3, -signal.SIGKILL) or b"Traceback" in told:
            raise SystemExit(f"exit code {process.returncode}: {told.decode()[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    random.seed(given.seed)
    os.environ["OMP_NUM_THREADS"] = "1"
    before, counts, rounds, began = environment(), Counter[str](), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = SmallConvNet(channels=1, size=8)
        network = normalized(build_seeded(config, 0), (), ())
        save_checkpoint(folder / "net.safetensors", network, card_for("net", config))
        start(folder, folder / "whole").wait()
        whole = hashed(folder / "whole")
        while sum(counts.values()) < given.faults:
            out = folder / "disturbed"
            disturb(folder, out, counts, given.faults)
            rounds += 1
            if hashed(out) != whole:
                raise SystemExit(f"round {rounds}: the rows are not those of the undisturbed run")
            shutil.rmtree(out)
            done = sum(counts.values())
            print(f"{done} faults, {rounds} rounds, {time.monotonic() - began:.0f} s", flush=True)
    table = {"faults": dict(counts), "rounds": rounds, "rows_lost_or_doubled": 0}
    print(json.dumps(table, indent=1))
    if given.json:
        given.json.write_text(json.dumps({"environment": before, **table}, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
