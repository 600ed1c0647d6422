"""A record belongs to a function: by each route another one gets its own record or a sentence."""

import json
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import Tensor, nn

from recuse.attacks import Apgd
from recuse.certify import GroupSequential
from recuse.cli.main import main
from recuse.composition import AdaptiveAdversary, Cascade, Core, Stage
from recuse.data.split import Split
from recuse.errors import DataError, RecordError
from recuse.evaluation import Evaluation, evaluate
from recuse.evaluation.attack_cascade import CascadeAttack, attack_cascade
from recuse.evaluation.certify_dataset import Certification, certify_dataset
from recuse.evaluation.identity import TOLERANCE, answers, probe
from recuse.models import SmallConvNet, card_for, load_model, save_checkpoint
from recuse.models.prepared import prepare
from recuse.records.answers import Answers
from recuse.records.hashes import record_hash, records_hash
from recuse.records.layout import PACK
from recuse.records.packing import pack
from recuse.records.schema import Record
from recuse.records.store import read_records
from recuse.selectors import SelectionNetwork
from recuse.threat import Threat

IDS = tuple(f"p{i:02d}" for i in range(24))
REFUSED = "rows of another function with the same weights"


class Half(nn.Module):
    """Two classes split by a hyperplane, with settings that no state dict holds."""

    def __init__(self, seed: int = 1, *, sign: float = 1.0, mean: float = 0.5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, generator=torch.Generator().manual_seed(seed)))
        self.sign, self.mean = sign, mean

    def forward(self, x: Tensor) -> Tensor:
        score = self.sign * ((x.flatten(1) - self.mean) @ self.weight)
        return torch.stack([-score, score], dim=1)


class Brightness(nn.Module):
    """A function without any weights."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, x: Tensor) -> Tensor:
        bright = x.flatten(1).mean(1) - self.level
        return torch.stack([-bright, bright], dim=1)


class Rounded(Half):
    """Moves no output by more than 1/510 of the weights, and has no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x * 255).round() / 255)


class Noisy(Half):
    """Draws noise from the global generator in each pass."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.3 * torch.randn_like(x))


def points(n: int = 12) -> Split:
    images = torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    ids = tuple(f"p{i:02d}" for i in range(n))
    return Split("points/test", images, torch.arange(n) % 2, ids, ("a", "b"))


def judged(folder: Path, model: nn.Module, **changes: object) -> Record:
    plan = Evaluation("linf", (0.02, 0.05), Apgd(steps=3), limit=changes.pop("limit", None))
    changes = {"prepared": False} | changes
    return evaluate(model, points(), plan, name="m", records=folder, **changes)


def certified(folder: Path, model: nn.Module) -> Record:
    plan = Certification(GroupSequential(0.12, n_max=500), (0.05,))
    return certify_dataset(model.eval(), points(), plan, name="m", records=folder)


def attacked(folder: Path, model: nn.Module, core: nn.Module, net: nn.Module) -> Record:
    budget = Threat("linf", 0.02)
    cascade = Cascade((Stage(model, SelectionNetwork(net), "m"),), Core(core), budget)
    plan = CascadeAttack(AdaptiveAdversary(steps=2, attacks=(Apgd(steps=2),)))
    return attack_cascade(cascade, points(), plan, records=folder)


@pytest.mark.parametrize("judge", [judged, certified])
def test_in_python_other_weights_get_a_record_and_other_functions_a_sentence(
    tmp_path: Path, judge
) -> None:
    first, second = judge(tmp_path, Half(1)), judge(tmp_path, Half(2))
    assert first.meta.weights != second.meta.weights
    assert first.frame["prediction"].to_list() != second.frame["prediction"].to_list()
    for other in (Half(1, sign=-1.0), Half(1, mean=0.4), Rounded(1), Noisy(1)):
        with pytest.raises(RecordError, match=f"m-.* holds {REFUSED}: m answers otherwise"):
            judge(tmp_path, other)
    assert len(list(tmp_path.iterdir())) == 2
    assert_frame_equal(judge(tmp_path, Half(1)).frame, first.frame)


def test_functions_without_weights_are_told_by_their_answers_alone(tmp_path: Path) -> None:
    first = judged(tmp_path, Brightness(0.5))
    with pytest.raises(RecordError, match=REFUSED):
        judged(tmp_path, Brightness(0.4))
    assert_frame_equal(judged(tmp_path, Brightness(0.5)).frame, first.frame)


def test_every_network_of_a_composition_is_part_of_it(tmp_path: Path) -> None:
    first = attacked(tmp_path, Half(1), Half(2), Half(3))
    flipped = [
        (Half(1, sign=-1.0), Half(2), Half(3)),
        (Half(1), Half(2, sign=-1.0), Half(3)),
        (Half(1), Half(2), Half(3, sign=-1.0)),
    ]
    for networks, name in zip(flipped, ("network 1", "core", "network 2"), strict=True):
        with pytest.raises(RecordError, match=f"{REFUSED}: .*{name}"):
            attacked(tmp_path, *networks)
    for networks in [(Half(4), Half(2), Half(3)), (Half(1), Half(4), Half(3))]:
        attacked(tmp_path, *networks)
    assert len(list(tmp_path.iterdir())) == 3
    assert_frame_equal(attacked(tmp_path, Half(1), Half(2), Half(3)).frame, first.frame)


def checkpoint(path: Path, seed: int, **facts: object) -> Path:
    torch.manual_seed(seed)
    card = card_for("net", SmallConvNet(channels=1, size=8, classes=10), **facts)
    save_checkpoint(path, card.build(), card)
    return path


def run(verb: str, model: str, *words: str) -> None:
    tail = ["--data", "digits", "--limit", "6", "--device", "cpu", *words]
    main([verb, model, *tail, *(["--attack", "apgd(steps=2)"] if verb == "evaluate" else [])])


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_from_a_checkpoint(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    path = checkpoint(tmp_path / "net.safetensors", 1)
    run("evaluate", str(path))
    checkpoint(path, 2)
    run("evaluate", str(path))
    checkpoint(path, 1, mean=(0.5,), std=(0.5,))  # changed normalisation, same weights inside
    run("evaluate", str(path))
    folders = list((tmp_path / "runs" / "evaluate" / "records").iterdir())
    assert len(folders) == 3
    checkpoint(path, 1)
    forward = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda layer, x: 2 * forward(layer, x))
    with pytest.raises(SystemExit) as stop:
        run("evaluate", str(path))
    assert stop.value.code == 2
    assert REFUSED in told(capsys)


NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer((x.flatten(1) - MEAN) / STD)

build = Net
"""


@pytest.mark.parametrize("verb", ["evaluate", "certify"])
def test_from_a_function_whose_module_changed(tmp_path, monkeypatch, capsys, verb) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    certified = ("--eps", "l2:0.1", "--certifier", "sequential(sigma=0.12, n_max=500)")
    words = certified if verb == "certify" else ()

    def judge(mean: float, std: float) -> None:
        (tmp_path / "identity_nets.py").write_text(f"{NETS}\nMEAN, STD = {mean}, {std}\n")
        sys.modules.pop("identity_nets", None)
        run(verb, "identity_nets:build", *words)

    judge(0.5, 0.25)
    for changed in [(0.4, 0.25), (0.5, 0.3), (0.5, -0.25)]:
        with pytest.raises(SystemExit) as stop:
            judge(*changed)
        assert stop.value.code == 2
        assert REFUSED in told(capsys)
    judge(0.5, 0.25)
    (record,) = read_records(tmp_path / "runs" / verb)
    assert len(record.frame) == 6


def strip(folder: Path) -> None:
    """Turn the one record of a folder into what earlier versions wrote."""
    (record,) = folder.iterdir()
    (record / "answers.json").unlink()


def test_a_record_of_before_answers_goes_on_if_its_rows_come_out_again(tmp_path: Path) -> None:
    whole = judged(tmp_path / "whole", Half())
    judged(tmp_path / "old", Half(), limit=10)
    strip(tmp_path / "old")
    with pytest.raises(RecordError, match=f"{REFUSED}: 8 of 8 samples judged again"):
        judged(tmp_path / "old", Half(sign=-1.0))
    notes: list[str] = []

    def note(task: str, done: int, total: int, said: str = "") -> None:
        notes.append(said)

    found = judged(tmp_path / "old", Half(), progress=note)
    assert_frame_equal(found.frame, whole.frame)
    assert "written before networks were known by their answers: 8 rows checked" in notes[0]
    judged(tmp_path / "old", Half(), progress=note)
    assert notes[-1] == ""
    with pytest.raises(RecordError, match="answers otherwise"):
        judged(tmp_path / "old", Half(sign=-1.0))


def evaluated(folder: Path, **changes: object) -> Record:
    plan = Evaluation("linf", (0.02,), Apgd(steps=3), batch_size=4)
    return evaluate(Half(), points(), plan, name="m", records=folder, **changes)


def proven(folder: Path, **changes: object) -> Record:
    plan = Certification(GroupSequential(0.12, n_max=500), (0.05,), chunk=4)
    return certify_dataset(Half().eval(), points(), plan, name="m", records=folder, **changes)


def composed(folder: Path, **changes: object) -> Record:
    stage = Stage(Half(1), SelectionNetwork(Half(3), 0.0), "m")
    cascade = Cascade((stage,), Core(Half(2)), Threat("linf", 0.02))
    plan = CascadeAttack(AdaptiveAdversary(steps=2, attacks=(Apgd(steps=2),)), chunk=4)
    return attack_cascade(cascade, points(), plan, records=folder, **changes)


def stopped_before_merging(folder: Path, judge) -> Path:
    """A record whose three parts lie there when the process is stopped."""

    def stop(task: str, done: int, total: int, said: str = "") -> None:
        if done == total and "tables" not in task:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(folder / "parts", progress=stop)
    (record,) = (folder / "parts").iterdir()
    return record


@pytest.mark.parametrize("judge", [evaluated, proven, composed])
def test_a_damaged_shard_is_judged_again_where_that_is_asked_for(tmp_path: Path, judge) -> None:
    folder, notes = stopped_before_merging(tmp_path, judge), []
    shard = sorted(folder.glob("shard-*"))[1]
    whole = judge(tmp_path / "whole")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(RecordError, match=f"{shard.name} is damaged .*--repair"):
        judge(folder.parent)

    def note(task: str, done: int, total: int, said: str = "") -> None:
        if "tables" not in task:
            notes.append((done, said))

    again = judge(folder.parent, repair=True, progress=note)
    assert [done for done, _ in notes] == [8, 12]
    assert shard.name in notes[0][1]
    assert_frame_equal(again.frame, whole.frame)
    assert_frame_equal(judge(folder.parent).frame, whole.frame)


@pytest.mark.parametrize("judge", [evaluated, proven, composed])
def test_a_finished_record_is_one_shard_and_goes_on(tmp_path: Path, judge) -> None:
    folder = stopped_before_merging(tmp_path, judge)
    assert len(list(folder.glob("shard-*"))) == 3
    whole = judge(folder.parent)
    (shard,) = folder.glob("shard-*")
    stamp = shard.stat().st_mtime_ns
    assert_frame_equal(judge(folder.parent).frame, whole.frame)
    assert shard.stat().st_mtime_ns == stamp
    shard.unlink()
    assert_frame_equal(judge(folder.parent).frame, whole.frame)


def test_a_larger_limit_goes_on_with_a_finished_or_a_packed_record(tmp_path: Path) -> None:
    judged(tmp_path / "whole", Half())
    first = judged(tmp_path / "parts", Half(), limit=4)
    for limit in (7, 12):
        pack(tmp_path / "parts", print)
        assert [path.name for path in (tmp_path / "parts").iterdir()] == [PACK]
        assert_frame_equal(judged(tmp_path / "parts", Half(), limit=4).frame, first.frame)
        assert len(judged(tmp_path / "parts", Half(), limit=limit).frame) == limit
    (folder,) = (path for path in (tmp_path / "parts").iterdir() if path.is_dir())
    assert len(list(folder.glob("shard-*"))) == 1
    pack(tmp_path / "parts", print)
    records = [list(read_records(tmp_path / name)) for name in ("whole", "parts")]
    assert records_hash(records[0]) == records_hash(records[1])


def test_the_hash_of_a_record_depends_on_no_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2, bias=False))
    model, found = nn.Sequential(*layers).eval(), set()
    images = Split("x/test", torch.rand(24, 1, 8, 8), torch.arange(24) % 2, IDS, ("a", "b"))
    for size in (1, 7, 24):
        plan = Evaluation("linf", (0.02, 0.05), Apgd(steps=3), batch_size=size)
        record = evaluate(model, images, plan, name="m", records=tmp_path / str(size))
        found.add(record_hash(record))
    assert 0 < record.frame["robust@0.02"].sum() < 24
    assert len(found) == 1


class InPlace(Half):
    """Changes the images that it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(0.5))


class Beside(Half):
    """Answers one image by what the others are."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(dim=0, keepdim=True))


class Graphed(Half):
    """Asks for a graph where nobody wants one."""

    @torch.enable_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


@pytest.mark.parametrize(
    ("network", "why"), [(InPlace, "writes into the images"), (Beside, "beside other images")]
)
def test_a_network_without_a_verdict_image_by_image_is_refused(
    network: type[Half], why: str, tmp_path: Path
) -> None:
    data, plan = points(), Evaluation("linf", (0.02,), Apgd(steps=3))
    with pytest.raises(DataError, match=why):
        evaluate(network(), data, plan, name="m", records=tmp_path, prepared=False)
    assert torch.equal(data.images, points().images)
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_network_that_asks_for_a_graph_is_judged_as_any_other(tmp_path: Path) -> None:
    one, two = judged(tmp_path / "1", Graphed()), judged(tmp_path / "2", Half())
    assert one.frame["robust@0.02"].equals(two.frame["robust@0.02"])


def test_a_network_that_draws_noise_is_known_again(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    found = answers({"m": Noisy()}, points().images)["m"]
    assert torch.equal(before, torch.get_rng_state())
    assert found.spread > 0.1
    first = judged(tmp_path, Noisy())
    for seed in range(20):
        torch.manual_seed(seed)
        assert_frame_equal(judged(tmp_path, Noisy()).frame, first.frame)


class Counting(Half):
    """Answers otherwise from its tenth pass on."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(x) * (1 if self.passes < 10 else -1)


def test_a_network_with_a_memory_goes_on_as_long_as_it_answers_the_same(tmp_path: Path) -> None:
    model = Counting()
    judged(tmp_path, model, limit=4)
    judged(tmp_path, Counting(), limit=8)
    with pytest.raises(RecordError, match=REFUSED):
        judged(tmp_path, model)
    (record,) = read_records(tmp_path)
    assert len(record.frame) == 8


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (2,), (1,)])
def test_the_probe_depends_on_the_shape_alone(shape: tuple[int, ...]) -> None:
    images = probe(shape)
    torch.manual_seed(1)
    assert torch.equal(images, probe(shape))
    assert images.shape == (8, *shape)
    assert images.dtype == torch.float32
    low, high = images.aminmax()
    assert 0 <= low <= high <= 1


def test_the_probe_is_the_same_on_every_machine() -> None:
    assert probe((3, 32, 32)).double().sum().item() == pytest.approx(12315.692023, abs=1e-5)


def test_a_network_that_cannot_take_the_images_is_named() -> None:
    with pytest.raises(DataError, match=r"'m' cannot read images of shape \(3, 2, 2\)"):
        answers({"m": nn.Linear(5, 2)}, points().images)


class Awkward(nn.Module):
    """Not finite on dark images; a parameter in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        dark = (x.flatten(1).mean(1, keepdim=True) - 0.45).log()
        return torch.cat([dark, self.scale * x.flatten(1)[:, 1:2]], dim=1)


def test_outputs_that_are_not_finite_are_kept_as_such(tmp_path: Path) -> None:
    found = answers({"m": Awkward()}, points().images)["m"]
    assert {row[0] is None for row in found.outputs} == {True, False}
    assert all(row[1] is not None for row in found.outputs)
    assert found.same_function(found)
    assert found.tolerance == 10 * TOLERANCE
    json.dumps(found.outputs, allow_nan=False)


@pytest.mark.parametrize("name", ["cifar10_resnet20_std", "cifar10_resnet4b_adv2"])
def test_machines_agree_and_changed_networks_do_not(shared_models, shared_data, name) -> None:
    network, card = load_model(name, data_root=shared_data)
    images = torch.zeros(1, *card.preprocessing.shape)

    def asked(model: nn.Module) -> Answers:
        return answers({"m": model.eval()}, images)["m"]

    kept = asked(network)
    with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
        assert kept.distance(asked(network)) < TOLERANCE / 1000
    assert kept.distance(asked(prepare(network))) < TOLERANCE / 1000
    network.to(memory_format=torch.channels_last)
    assert kept.distance(asked(network)) < TOLERANCE / 1000
    assert kept.same_function(asked(network))
    bare = network.get_submodule("network")
    assert kept.distance(asked(bare)) > 10 * TOLERANCE
    normalize = network.get_submodule("normalize")
    normalize.std.mul_(1.02)  # to another data set's, for example
    assert not kept.same_function(asked(network))


def test_confirmation_reads_only_what_all_machines_agree_on(tmp_path: Path) -> None:
    # A verdict on the boundary may differ between machines; a prediction on it hardly ever.
    judged(tmp_path, Half())
    strip(tmp_path)
    (folder,) = tmp_path.iterdir()
    (shard,) = folder.glob("shard-*")
    other = (~pl.col("robust@0.02"), pl.lit(99, pl.Int32).alias("forwards"))
    frame = pl.read_parquet(shard).with_columns(*other, pl.lit(value=False).alias("robust@0.05"))
    frame.write_parquet(folder / "shard-00000.parquet")
    shard.unlink()
    assert judged(tmp_path, Half()).frame["forwards"].to_list() == [99] * 12
