"""The loop: learns, repeats itself bit for bit, survives a kill, refuses what it should."""

import io
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import pytest
import torch
from safetensors.torch import save as serialize
from torch import nn

from recuse.attacks.pgd import Pgd
from recuse.data import Digits, Gaussians
from recuse.data.augment import CropFlip
from recuse.errors import ConfigError, DataError, PausedError, TrainingError
from recuse.models import Mlp, SmallConvNet, build_seeded
from recuse.models.prepared import imitates_bf16
from recuse.serialize import from_plain, to_plain
from recuse.threat import Threat
from recuse.training import (
    Checkpointing,
    Constant,
    Cosine,
    Ema,
    Era,
    Gairat,
    Ramp,
    Robust,
    Standard,
    Swa,
    Trades,
    TrainConfig,
    Validation,
    fit,
    pseudo_labelled,
    training_classes,
)
from recuse.training.state import load_weights
from recuse.training.validation import Rates, best_rates, collapse

QUICK = Pgd(steps=3, step_size_relative=0.5)
BASE = TrainConfig(
    Era(robust=Trades(), attack=QUICK),
    Threat("linf", 0.1),
    epochs=2,
    batch_size=32,
    lr=0.1,
    validation=Validation(QUICK, limit=40),
)


@pytest.fixture(scope="module")
def digits():
    splits = Digits().load(None)
    return splits.train.head(150), splits.validation.head(60)


def net(seed=0, **settings):
    return build_seeded(Mlp(shape=(1, 8, 8), classes=10, width=16, **settings), seed)


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def state_of(folder):
    """The state of a run, without the checksum before it."""
    return torch.load(io.BytesIO((folder / "state.pt").read_bytes()[16:]), weights_only=True)


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_training_repeats_itself_and_touches_no_global_state(digits, tmp_path):
    before = torch.random.get_rng_state()
    config = replace(BASE, augment=CropFlip(1))
    first = fit(net(dropout=0.2), *digits, config, tmp_path / "a")
    torch.rand(2)
    second = fit(net(dropout=0.2), *digits, config, tmp_path / "b")
    assert_same(weights(first.model), weights(second.model))
    assert first.history == second.history
    assert not first.model.training
    torch.random.set_rng_state(before)
    fit(net(dropout=0.2), *digits, replace(config, epochs=1), tmp_path / "c")
    assert torch.equal(torch.random.get_rng_state(), before)
    other = fit(net(dropout=0.2), *digits, replace(config, seed=1), tmp_path / "d")
    assert not torch.equal(next(other.model.parameters()), next(first.model.parameters()))


def test_the_order_of_the_rows_plays_no_part(digits, tmp_path):
    train, validation = digits
    turned = train.take(list(reversed(range(len(train)))))
    first = fit(net(), train, validation, BASE, tmp_path / "a")
    second = fit(net(), turned, validation, BASE, tmp_path / "b")
    assert_same(weights(first.model), weights(second.model))


@pytest.mark.parametrize("average", [Ema(0.9), Swa(0.5)])
def test_an_interrupted_run_ends_with_the_same_bits(digits, tmp_path, average):
    config = replace(BASE, average=average, checkpointing=Checkpointing(steps=2))
    whole = fit(net(dropout=0.2), *digits, config, tmp_path / "whole")

    class StoppedError(Exception):
        pass

    def stop_at(step):
        def progress(task, done, total, note=""):
            if done == step:
                raise StoppedError

        return progress

    for step in (1, 4, 7):
        with pytest.raises(StoppedError):
            fit(net(dropout=0.2), *digits, config, tmp_path / "cut", progress=stop_at(step))
    rest = fit(net(dropout=0.2), *digits, config, tmp_path / "cut")
    assert_same(weights(whole.model), weights(rest.model))
    assert whole.history == rest.history
    assert rest.log.read_text() == whole.log.read_text()
    again = fit(net(dropout=0.2), *digits, config, tmp_path / "cut")
    assert_same(weights(again.model), weights(rest.model))


SCRIPT = """
import sys, time
from pathlib import Path
from test_loop_plan import plan
from recuse.training import fit
model, train, validation, config = plan()
out, pause = Path(sys.argv[1]), float(sys.argv[2])
fit(model, train, validation, config, out, progress=lambda *a: time.sleep(pause))
"""
PLAN = """
import torch
from recuse.attacks.pgd import Pgd
from recuse.data import Digits
from recuse.models import SmallConvNet, build_seeded
from recuse.threat import Threat
from recuse.training import *
torch.set_num_threads(1)
def plan():
    splits = Digits().load(None)
    quick = Pgd(steps=3)
    config = TrainConfig(
        Era(attack=quick), Threat("linf", 0.1), epochs=2, batch_size=20, lr=0.05,
        average=Ema(0.9), validation=Validation(quick, limit=20),
        checkpointing=Checkpointing(steps=3),
    )
    model = build_seeded(SmallConvNet(channels=1, size=8), 0)
    return model, splits.train.head(201), splits.validation, config
"""


def start(folder, out, *, pause=0.0):
    return subprocess.Popen([sys.executable, "train.py", out, str(pause)], cwd=folder)


@pytest.mark.slow
def test_kill_9_in_mid_epoch_and_rerun(tmp_path):
    (tmp_path / "test_loop_plan.py").write_text(PLAN)
    (tmp_path / "train.py").write_text(SCRIPT)

    whole = start(tmp_path, "whole")
    state = tmp_path / "cut" / "state.pt"
    for moment in (1, 2):
        process = start(tmp_path, "cut", pause=0.2)
        known = state.stat().st_mtime_ns if state.is_file() else 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if state.is_file() and state.stat().st_mtime_ns > known + moment:
                break
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert start(tmp_path, "cut").wait() == 0
    assert whole.wait() == 0
    for file in ("last.safetensors", "best.safetensors", "model.jsonl"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_parts_of_a_batch_add_up(digits, tmp_path):
    train, validation = digits
    one = fit(net().double(), train, validation, BASE, tmp_path / "a")
    three = fit(net().double(), train, validation, replace(BASE, accumulate=3), tmp_path / "b")
    for a, b in zip(one.model.parameters(), three.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("every", [1, 2])
def test_weights_that_blew_up_are_not_saved(steps, every, digits, tmp_path):
    """In the middle of an epoch, or in its only step, whose loss is that of the step before."""
    train, validation = digits
    config = replace(
        BASE,
        lr=1e30,
        objective=Standard(),
        batch_size=-(-len(train) // steps),
        validation=replace(BASE.validation, every=every),
        checkpointing=Checkpointing(steps=1),
    )
    given = {name: tensor.clone() for name, tensor in net().state_dict().items()}
    with pytest.raises(
        TrainingError, match=r"answers are not finite in epoch 1 of 2, step 1; .*lr"
    ):
        fit(net(), train, validation, config, tmp_path)
    saved = state_of(tmp_path)
    assert saved["position"]["step"] == 0
    assert all(torch.equal(saved["network"][name], given[name]) for name in given)
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(digits, tmp_path):
    config = replace(BASE, lr=1e30, objective=Standard())
    with pytest.raises(TrainingError, match=r"loss is not finite in epoch 1 .* step 2;.*lower lr"):
        fit(net(), *digits, config, tmp_path)
    assert state_of(tmp_path)["position"]["step"] == 0


class Rooted(nn.Module):
    """Adds a root that is always 0, whose slope there is not a number."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x) + (x * 0).sum((1, 2, 3)).sqrt()[:, None]


def test_a_network_that_cannot_be_judged_is_an_error_of_training(digits, tmp_path):
    with pytest.raises(TrainingError, match=r"validation cannot attack .*gradient is NaN"):
        fit(Rooted(net()), *digits, replace(BASE, objective=Standard()), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_a_folder_belongs_to_one_run(digits, tmp_path):
    fit(net(), *digits, replace(BASE, epochs=1), tmp_path)
    for other in (replace(BASE, epochs=1, lr=0.2), replace(BASE, epochs=1, seed=9)):
        with pytest.raises(ConfigError, match="holds a different run"):
            fit(net(), *digits, other, tmp_path)
    with pytest.raises(ConfigError, match="holds a different run"):
        fit(net(seed=1), *digits, replace(BASE, epochs=1), tmp_path)
    train, validation = digits
    brighter = replace(train, images=train.images * 0.5)
    for data in (
        (brighter, validation),
        (train, replace(validation, images=1 - validation.images)),
    ):
        with pytest.raises(ConfigError, match="data or initial weights differ"):
            fit(net(), *data, replace(BASE, epochs=1), tmp_path)


@pytest.mark.parametrize("name", ["state.pt", "best.safetensors", "last.safetensors"])
def test_damage_is_a_sentence_and_never_other_weights(name, digits, tmp_path):
    config = replace(BASE, epochs=1, keep=name.partition(".")[0].replace("state", "best"))
    found = weights(fit(net(), *digits, config, tmp_path).model)
    path = tmp_path / name
    whole, draw = path.read_bytes(), random.Random(0)
    for damage in range(40):
        at, bit = draw.randrange(len(whole)), 1 << draw.randrange(8)
        flipped = bytearray(whole)
        flipped[at] ^= bit
        path.write_bytes([flipped, whole[:at], b""][min(damage // 16, 2)])
        with pytest.raises(DataError, match=rf"{name} is damaged; delete .* and rerun"):
            fit(net(), *digits, config, tmp_path)
    path.write_bytes(whole)
    assert_same(weights(fit(net(), *digits, config, tmp_path).model), found)


def test_files_of_before_there_were_checksums_are_read(digits, tmp_path):
    config = replace(BASE, epochs=1)
    found = fit(net(), *digits, config, tmp_path)
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[16:])
    found.best.write_bytes(serialize(load_weights(found.best)))
    assert_same(weights(fit(net(), *digits, config, tmp_path).model), weights(found.model))


def test_log_best_and_last(digits, tmp_path):
    config = replace(BASE, epochs=4)
    result = fit(net(), *digits, config, tmp_path / "a", name="era")
    rows = [json.loads(line) for line in (tmp_path / "a" / "era.jsonl").read_text().splitlines()]
    assert tuple(rows) == result.history
    learnt = [row["train_accuracy"] for row in rows]
    assert 0 <= min(learnt) < learnt[-1] <= 1
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert {"lr", "loss", "robust", "penalty"} <= rows[0].keys()
    for row in rows:
        assert 0 <= row["robust_accuracy"] <= row["natural_accuracy"] <= 1
        assert row["robust_inaccuracy"] <= 1 - row["natural_accuracy"] + 1e-9
    best = min(rows, key=lambda r: (r["robust_inaccuracy"], -r["robust_accuracy"]))
    assert result.best_epoch == best["epoch"]
    assert_same(load_weights(result.last), weights(result.model))
    kept = fit(net(), *digits, replace(config, keep="best"), tmp_path / "b")
    assert_same(load_weights(result.best), weights(kept.model))


def test_a_run_says_what_an_image_cost(digits, tmp_path):
    """Three steps of attack, two forward passes of the loss; a batch is 150 rows of five steps."""
    config = replace(BASE, checkpointing=Checkpointing(steps=1))
    result = fit(net(), *digits, config, tmp_path / "whole")
    assert [row["passes"] for row in result.history] == [12.0, 12.0]
    assert result.passes == 12.0

    def stop(task, done, total, note=""):
        if done == 3:
            raise InterruptedError

    folder = tmp_path / "old"
    with pytest.raises(InterruptedError):
        fit(net(), *digits, config, folder, progress=stop)
    saved = state_of(folder)
    assert int(saved["position"]["sums"].pop("passes")) == 12 * saved["position"]["samples"]
    torch.save(saved, folder / "state.pt")
    rest = fit(net(), *digits, config, folder)
    assert "passes" not in rest.history[0], "of half an epoch nothing is known"
    assert rest.history[1] == result.history[1]
    assert rest.passes == 12.0


def test_ties_go_to_higher_robust_accuracy_then_to_the_earlier_epoch():
    assert Rates(0.5, 0.4, 0.1).better_than(Rates(0.9, 0.8, 0.2))
    assert Rates(0.5, 0.4, 0.1).better_than(Rates(0.9, 0.3, 0.1))
    assert not Rates(0.9, 0.4, 0.1).better_than(Rates(0.5, 0.4, 0.1))
    assert best_rates([{"epoch": 1, "loss": 2.0}]) is None


def test_swa_is_the_mean_of_the_late_epochs(digits, tmp_path):
    """Weights at the end of each epoch are those of a run without averaging that stops there."""
    config = replace(BASE, epochs=4, objective=Standard(), validation=Validation(QUICK, limit=10))
    seen = []

    def watch(task, done, total, note=""):
        if done % 5 == 0:
            seen.append([p.detach().clone() for p in plain.parameters()])

    plain = net()
    fit(plain, *digits, config, tmp_path / "plain", progress=watch)
    averaged = fit(net(), *digits, replace(config, average=Swa(0.5)), tmp_path / "swa").model
    for i, parameter in enumerate(averaged.parameters()):
        mean = torch.stack([epoch[i] for epoch in seen[1:]]).mean(0)
        torch.testing.assert_close(parameter.detach(), mean, rtol=1e-5, atol=1e-6)


def test_every_training_config_survives_json():
    config = replace(
        BASE,
        objective=Era(robust=Gairat(burn_in=0.2), ramp=Ramp(0.1, 0.3)),
        schedule=Cosine(),
        average=Swa(),
    )
    classes = {kind.__name__: kind for kind in (*training_classes(), Threat)}
    classes |= {type(config.augment).__name__: type(config.augment)}
    assert from_plain(json.loads(json.dumps(to_plain(config))), classes) == config


def test_settings_that_cannot_be_run_are_refused(digits, tmp_path):
    for wrong in ({"epochs": 0}, {"lr": -1.0}, {"clip_norm": 0.0}, {"extra_share": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            replace(BASE, **wrong)
    with pytest.raises(ConfigError, match="was given"):
        fit(net(), *digits, replace(BASE, extra_share=0.5), tmp_path)
    with pytest.raises(ConfigError, match="is empty, so that no epoch can be judged"):
        fit(net(), digits[0], digits[1].take([]), BASE, tmp_path)
    with pytest.raises(ConfigError, match="'model' has no weights"):
        fit(nn.Flatten(), *digits, BASE, tmp_path)
    for half in (torch.float16, torch.bfloat16):
        with pytest.raises(ConfigError, match="keep them in float32 and set precision to 'bf16'"):
            fit(net().to(half), *digits, BASE, tmp_path)
    assert list(tmp_path.iterdir()) == []
    points = Gaussians().load(None)
    with pytest.raises(ConfigError, match="classes"):
        fit(net(), digits[0], points.train, BASE, tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"every": 0}, {"batch_size": 0}, {"limit": 0}, {"limit": -1}, {"every": -1}]
)
def test_a_validation_that_judges_nothing_is_refused(wrong):
    with pytest.raises(ConfigError, match="each must be 1 or more"):
        Validation(**wrong)


@pytest.mark.parametrize("wrong", [{"seconds": 0.0}, {"steps": 0}, {"seconds": float("nan")}])
def test_checkpoints_that_never_or_always_come_are_refused(wrong):
    with pytest.raises(ConfigError, match="more than 0 seconds and 1 step or more"):
        Checkpointing(**wrong)


def test_self_training_learns_from_images_without_labels(digits, tmp_path):
    train, validation = digits
    labelled, unlabelled = train.head(75), train.take(range(75, 150)).renamed("digits/extra")
    teacher = fit(
        net(),
        labelled,
        validation,
        replace(BASE, objective=Standard(), epochs=10, batch_size=16),
        tmp_path / "teacher",
    ).model
    extra = pseudo_labelled(teacher, unlabelled)
    with torch.no_grad():
        assert torch.equal(extra.labels, teacher(unlabelled.images).argmax(1))
    assert extra.ids == unlabelled.ids
    with torch.no_grad():
        confidence = teacher(unlabelled.images).softmax(1).amax(1)
    sure = pseudo_labelled(teacher, unlabelled, min_confidence=float(confidence.median()))
    assert 0 < len(sure) < len(extra)
    config = replace(BASE, extra_share=0.5, objective=Robust(attack=QUICK))
    result = fit(net(), labelled, validation, config, tmp_path / "rst", extra=extra)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    with pytest.raises(DataError, match="lower min_confidence"):
        pseudo_labelled(teacher, unlabelled, min_confidence=1.1)


def test_trades_on_digits_becomes_robust(tmp_path):
    splits = Digits().load(None)
    model = build_seeded(Mlp(shape=(1, 8, 8), classes=10), 0)
    config = replace(
        BASE,
        objective=Robust(Trades(3.0), QUICK),
        epochs=5,
        batch_size=64,
        schedule=Cosine(),
        clip_norm=5.0,
    )
    history = fit(model, splits.train, splits.validation.head(100), config, tmp_path).history
    assert history[-1]["natural_accuracy"] > 0.7
    assert history[-1]["robust_accuracy"] > 0.4


@dataclass(frozen=True)
class Hungry:
    """Cross-entropy that needs more memory than there is for more than ``most`` rows."""

    most: int

    def __call__(self, model, x, y, threat, *, noise, progress):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Standard()(model, x, y, threat, noise=noise)


def test_batches_are_cut_when_memory_runs_out(digits, tmp_path):
    plain = replace(BASE, objective=Standard())
    whole = fit(net().double(), *digits, plain, tmp_path / "a").model
    cut = replace(BASE, objective=Hungry(9), accumulate=0)
    small = fit(net().double(), *digits, cut, tmp_path / "b").model
    for a, b in zip(whole.parameters(), small.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    with pytest.raises(torch.OutOfMemoryError):
        fit(net(), *digits, replace(cut, accumulate=1), tmp_path / "c")
    with pytest.raises(torch.OutOfMemoryError):
        fit(net(), *digits, replace(cut, objective=Hungry(0)), tmp_path / "d")


def test_bf16_trains_fp32_weights_as_fp32_does(digits, tmp_path):
    exact = replace(BASE, batch_size=8, objective=Standard())
    first = fit(net(), *digits, exact, tmp_path / "fp32")
    second = fit(net(), *digits, replace(exact, precision="bf16"), tmp_path / "bf16")
    assert {p.dtype for p in second.model.parameters()} == {torch.float32}
    losses = [[row["loss"] for row in result.history] for result in (first, second)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]
    assert losses[1][-1] < losses[1][0]


def test_a_collapse_stops_training_and_keeps_what_was_before(digits, tmp_path, monkeypatch):
    found = iter([Rates(0.9, 0.6, 0.1), Rates(0.9, 0.5, 0.1), Rates(0.95, 0.2, 0.0)] * 2)
    monkeypatch.setattr("recuse.training.run.judge", lambda *_, **__: next(found))
    judged = Validation(QUICK, limit=40, collapse=0.5)
    config = replace(BASE, epochs=3, validation=judged, schedule=Constant())
    said = r"fell from 60.0% after epoch 1 to 20.0% after epoch 3: .*attack alone; .*before are in"
    with pytest.raises(TrainingError, match=said):
        fit(net(), *digits, config, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "model.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    kept = fit(net(), *digits, replace(config, epochs=1), tmp_path / "one")
    assert_same(load_weights(tmp_path / "best.safetensors"), load_weights(kept.best))
    assert not collapse([], Rates(0.1, 0.0, 0.0), 1, 0.5)
    with pytest.raises(ConfigError, match="collapse"):
        Validation(collapse=1.0)


def test_training_in_half_precision_goes_on_with_the_same_bits(digits, tmp_path):
    class StoppedError(Exception):
        pass

    def stop(task, done, total, note=""):
        if done == 6:
            raise StoppedError

    def start():
        return build_seeded(SmallConvNet(channels=1, size=8), 0)

    config = replace(BASE, precision="bf16", checkpointing=Checkpointing(steps=2))
    whole = fit(start(), *digits, config, tmp_path / "a")
    with pytest.raises(StoppedError):
        fit(start(), *digits, config, tmp_path / "b", progress=stop)
    rest = fit(start(), *digits, config, tmp_path / "b")
    assert_same(weights(whole.model), weights(rest.model))
    assert_same(load_weights(rest.last), weights(rest.model))


def test_a_pause_keeps_the_very_step_and_the_run_ends_with_the_same_bits(digits, tmp_path):
    config = replace(BASE, average=Ema(0.9), epochs=3, checkpointing=Checkpointing(seconds=1e6))
    whole = fit(net(), *digits, config, tmp_path / "whole")
    reached, spent = [], [0.0]

    def pause(task, done, total, note=""):
        # Once in mid-epoch, once at the end of an epoch that is not closed yet.
        if done in (2, 10) and done not in reached:
            reached.append(done)
            raise PausedError("stopped")

    for _ in range(2):
        with pytest.raises(PausedError):
            fit(net(), *digits, config, tmp_path / "paused", progress=pause)
        state = state_of(tmp_path / "paused")["position"]
        assert state["epoch"] * 5 + state["step"] == reached[-1]
        spent.append(state["seconds"])
    rest = fit(net(), *digits, config, tmp_path / "paused", progress=pause)
    assert reached == [2, 10]
    assert spent == sorted({*spent, 0.0}), "what came before a pause is counted"
    assert rest.seconds > spent[-1]
    assert_same(weights(rest.model), weights(whole.model))
    assert rest.history == whole.history


def test_short_epochs_do_not_each_write_the_state(digits, tmp_path):
    """On a GPU an epoch takes seconds; what a kill costs is seconds too."""
    stay = Checkpointing(seconds=1e6)
    config = replace(BASE, epochs=4, checkpointing=stay, validation=Validation(QUICK, every=2))
    written = []

    def look(task, done, total, note=""):
        written.append(state_of(tmp_path)["position"]["epoch"])

    fit(net(), *digits, config, tmp_path, progress=look)
    assert sorted(set(written)) == [0, 2]


def test_a_run_says_that_it_goes_on_without_its_precision(digits, tmp_path, monkeypatch):
    config = replace(BASE, precision="bf16", epochs=1)
    told = []

    def listen(task, done, total, note=""):
        told.append((done, note))

    monkeypatch.setattr("recuse.training.remarks.imitates_bf16", lambda device: False)
    fit(net(), *digits, replace(config, epochs=1), tmp_path / "whole", progress=listen)
    assert not any("imitates" in note for _, note in told)
    monkeypatch.setattr("recuse.training.remarks.imitates_bf16", lambda device: True)
    fit(net(), *digits, replace(config, epochs=1), tmp_path / "whole", progress=listen)
    (where,) = (done for done, note in told if "the same command goes on from here" in note)
    assert where == 5, "it tells where the run stands"
    told.clear()
    fit(net(), *digits, BASE, tmp_path / "fp32", progress=listen)
    assert not any("imitates" in note for _, note in told)


def test_what_has_no_bf16_is_known(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert imitates_bf16(torch.device("cpu"))
    assert not imitates_bf16(torch.device("meta"))
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert not imitates_bf16(torch.device("cpu"))
