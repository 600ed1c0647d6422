"""The record is the same whatever computes it, in pieces of any size, whoever dies."""

import ctypes
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import recuse
from recuse.attacks import Apgd, MaskingCheck, Square
from recuse.certify import GroupSequential
from recuse.composition import AdaptiveAdversary, Cascade, Core, Stage
from recuse.data import Digits
from recuse.data.split import Split
from recuse.engine import Engine, InProcess, Processes, Retries
from recuse.errors import DataError, EngineError, RecordError
from recuse.evaluation import Evaluation, evaluate
from recuse.evaluation.attack_cascade import CascadeAttack, attack_cascade
from recuse.evaluation.certify_dataset import Certification, certify_dataset
from recuse.evaluation.placing import FIRST
from recuse.models import SmallConvNet, build_seeded, normalized
from recuse.progress import Progress, silent
from recuse.records.hashes import record_hash
from recuse.records.schema import Record
from recuse.selectors import RobustnessIndicator
from recuse.threat import Threat

BUDGET = Threat("linf", 0.05)
TWO = Processes(2, shard_size=8, retries=Retries(pause=0.01))


def network(seed: int = 0) -> nn.Module:
    return normalized(build_seeded(SmallConvNet(channels=1, size=8), seed), (0.5,), (0.5,)).eval()


@pytest.fixture(scope="module")
def digits() -> Split:
    return Digits().load().test.head(60)


def attacked(
    model: nn.Module,
    split: Split,
    records: Path,
    engine: Engine,
    progress: Progress = silent,
    size: int = 16,
) -> Record:
    plan = Evaluation("linf", (0.02, 0.05), Apgd(steps=5), batch_size=size)
    return evaluate(
        model, split, plan, name="net", records=records, engine=engine, progress=progress
    )


def certified(split: Split, records: Path, engine: Engine) -> Record:
    plan = Certification(GroupSequential(0.25, n_max=2000), (0.1,), chunk=9)
    return certify_dataset(
        network(), split.head(20), plan, name="net", records=records, engine=engine
    )


def composed(split: Split, records: Path, engine: Engine) -> Record:
    stage = Stage(network(), RobustnessIndicator(BUDGET, Apgd(steps=3)), "robust")
    cascade = Cascade((stage,), Core(network(1), "core"), BUDGET)
    plan = CascadeAttack(AdaptiveAdversary(steps=3, attacks=(Apgd(steps=3),)), chunk=8)
    return attack_cascade(cascade, split.head(20), plan, records=records, engine=engine)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda s, r, e: attacked(network(), s, r, e), id="attacked"),
        pytest.param(certified, id="certified", marks=pytest.mark.slow),
        pytest.param(composed, id="composed", marks=pytest.mark.slow),
    ],
)
def test_the_record_is_the_same_whatever_computes_it(
    digits: Split, tmp_path: Path, make: Callable[[Split, Path, Engine], Record]
) -> None:
    engines = {"a": InProcess(), "b": InProcess(7), "c": Processes(2, shard_size=13)}
    hashes = {record_hash(make(digits, tmp_path / name, e)) for name, e in engines.items()}
    assert len(hashes) == 1


@pytest.mark.slow
def test_workers_that_are_killed_again_and_again_change_no_row(
    digits: Split, tmp_path: Path
) -> None:
    whole, notes = attacked(network(), digits, tmp_path / "whole", InProcess()), []

    def kill(task: str, done: int, total: int, note: str = "") -> None:
        notes.append(note)
        if 0 < done < 40 and "SIGKILL" not in note:  # once a result, not once a loss
            for worker in multiprocessing.active_children()[:1]:
                worker.kill()

    record = attacked(network(), digits, tmp_path / "killed", TWO, progress=kill)
    assert record_hash(record) == record_hash(whole)
    assert any("SIGKILL; its piece is computed again" in note for note in notes)


class Steady(nn.Module):
    """A network."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


class Astray(Steady):
    """The same on a machine whose time of day jumps to and fro, years each way."""

    def forward(self, x: Tensor) -> Tensor:
        time.time = astray
        return super().forward(x)


def astray(real: Callable[[], float] = time.time) -> float:
    return real() + 1e8 * (-1) ** int(1e3 * real())


def test_a_clock_that_jumps_changes_no_row_and_gives_nobody_up(
    digits: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", time.time)  # which the network sets, here as in workers
    whole, told = attacked(Steady(), digits.head(24), tmp_path / "whole", InProcess()), list[str]()

    def tell(task: str, done: int, total: int, note: str = "") -> None:
        told.append(note)

    for name, engine in {"here": InProcess(), "two": TWO}.items():
        found = attacked(Astray(), digits.head(24), tmp_path / name, engine, tell)
        assert record_hash(found) == record_hash(whole)
        assert time.time is astray
    assert set(told) == {""}
    # What was bound before the clock went astray is not seen above.
    files = Path(recuse.__file__).parent.rglob("*.py")
    assert not [file for file in files if "time.time" in file.read_text(encoding="utf-8")]


@contextmanager
def obeying_permissions() -> Iterator[None]:
    """Without the administrator's right to write where it is forbidden, in this thread."""
    libc, header = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice
    libc.capget(header, held)
    before = held[0]
    held[0] &= ~(1 << 1)  # CAP_DAC_OVERRIDE
    libc.capset(header, held)
    try:
        yield
    finally:
        held[0] = before
        libc.capset(header, held)


@pytest.mark.skipif(sys.platform != "linux", reason="rights are dropped as Linux drops them")
def test_a_folder_that_becomes_read_only_is_a_sentence_and_costs_no_row(
    digits: Split, tmp_path: Path
) -> None:
    few, records = digits.head(24), tmp_path / "cut"
    whole = attacked(network(), few, tmp_path / "whole", InProcess())

    def lock(task: str, done: int, total: int, note: str = "") -> None:
        if done:
            (folder,) = records.iterdir()
            folder.chmod(0o555)

    with obeying_permissions():
        with pytest.raises(RecordError, match=r"cannot write .*Permission denied; nothing was lef"):
            attacked(network(), few, records, InProcess(8), lock)
        (folder,) = records.iterdir()
        assert len(list(folder.glob("shard-*"))) == 1
        assert not list(folder.glob("*.partial"))
        with pytest.raises(RecordError, match=r"cannot write .*Permission denied"):
            attacked(network(), few, records, InProcess(8))
        folder.chmod(0o755)
        assert record_hash(attacked(network(), few, records, InProcess(8))) == record_hash(whole)


class Tight(nn.Module):
    """A network whose device has room for so many images alone."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.network, self.room = network(), room

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.network(x)


def test_a_batch_that_does_not_fit_is_halved_and_changes_no_row(
    digits: Split, tmp_path: Path
) -> None:
    whole = attacked(Tight(60), digits, tmp_path / "whole", InProcess(), size=60)
    tight = attacked(Tight(FIRST), digits, tmp_path / "tight", InProcess(), size=60)
    assert record_hash(tight) == record_hash(whole)


class OnceNan(nn.Module):
    """A network that returns NaN at one pass, as a machine might that is about to fail."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.network, self.at, self.passes = network(), at, 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        logits: Tensor = self.network(x)
        return logits * torch.nan if self.passes == self.at else logits


@pytest.mark.types_checked_elsewhere
def test_a_nan_at_whatever_pass_is_a_sentence_and_never_a_verdict(
    digits: Split, tmp_path: Path
) -> None:
    few = MaskingCheck(samples=4, few=Apgd(steps=1), black=Square(queries=2))
    plan = Evaluation("linf", (0.02, 0.1), Apgd(steps=2), batch_size=30, recheck=few)

    def judged(at: int) -> tuple[str, int]:
        model = OnceNan(at)
        where = tmp_path / str(at)
        found = evaluate(model, digits.head(30), plan, name="n", records=where, prepared=False)
        return record_hash(found), model.passes

    (whole, passes), refused = judged(0), 0
    for at in range(1, passes + 1):
        try:
            assert judged(at)[0] == whole, f"NaN at pass {at} of {passes}"
        except DataError as error:
            refused += "NaN" in str(error)
    assert refused > passes / 2


def test_an_image_that_does_not_fit_is_one_sentence(digits: Split, tmp_path: Path) -> None:
    class Full(Tight):
        def forward(self, x: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.network(x)

    with pytest.raises(EngineError, match="one sample does not fit into memory"):
        attacked(Full(60), digits, tmp_path, InProcess())
