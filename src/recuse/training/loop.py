"""The training loop: steps, validation, and a state that survives a kill."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from recuse.data.augment import check_augment
from recuse.data.split import Split
from recuse.errors import ConfigError, TrainingError
from recuse.progress import Progress, silent
from recuse.random import SampleNoise, stable_seed
from recuse.training.averaging import Averager
from recuse.training.batches import Batch, Batches
from recuse.training.config import TrainConfig
from recuse.training.forward import Trainee
from recuse.training.processes import Processes
from recuse.training.schedule import objective_at
from recuse.training.state import (
    Files,
    Position,
    Row,
    fingerprint,
    load_state,
    load_weights,
    save_state,
    save_weights,
)
from recuse.training.validation import Rates, judge

# A look at the loss makes a GPU wait, so there it is looked at only every so many steps.
LOOK_EVERY = 25
AUTOMATIC = 0


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What training left.

    Attributes:
        model: The network that was given, now with the weights ``config.keep`` asks for, in
            eval mode.
        history: One log row per epoch, as in the log file.
        best_epoch: Epoch (from 1) of the lowest robust inaccuracy on validation.
        best: Its weights.
        last: Weights at the end.
        log: Training log, one JSON object a line.
    """

    model: nn.Module
    history: tuple[Row, ...]
    best_epoch: int
    best: Path
    last: Path
    log: Path


def fit(
    model: nn.Module,
    train: Split,
    validation: Split,
    config: TrainConfig,
    out: Path,
    *,
    name: str = "model",
    extra: Split | None = None,
    progress: Progress = silent,
) -> TrainResult:
    """Train a network, or go on where a killed run of the same call left off.

    The weights at the end depend on the arguments alone: on a CPU a run that was killed in
    mid-epoch and started again ends with the same bits as one that was not.

    Args:
        model: The network with its initial weights, on the device to train on; changed in place.
        train: Labelled training data.
        validation: Data for the log and for choosing the best epoch; never test data.
        config: How to train.
        out: Folder of this training alone: log, state, weights of the best and the last epoch.
        name: Names the log and the progress.
        extra: Pseudo-labelled data of which ``config.extra_share`` goes into each batch.
        progress: Told as steps are done.

    Returns:
        The trained network and where its files are.

    Raises:
        ConfigError: ``out`` holds a different run, or the settings do not fit the data.
        TrainingError: The loss is not finite; the last good state is kept.
        RecordError: A file cannot be written.
    """
    check_augment(config.augment, train)
    if {validation.classes, (extra or train).classes} != {train.classes}:
        raise ConfigError(f"{train.name} and {validation.name} have different numbers of classes")
    run = _Run.open(model, train, validation, config, Files(out, name), extra, progress)
    while run.position.epoch < config.epochs:
        run.epoch()
    return run.result()


@dataclass(eq=False)
class _Run:
    """A run in progress."""

    network: nn.Module
    validation: Split
    config: TrainConfig
    files: Files
    progress: Progress
    batches: Batches
    trainee: Trainee
    optimizer: torch.optim.SGD
    averager: Averager
    processes: Processes
    identity: str
    position: Position = field(default_factory=Position)
    saved: float = field(default_factory=time.monotonic)

    @classmethod
    def open(
        cls,
        model: nn.Module,
        train: Split,
        validation: Split,
        config: TrainConfig,
        files: Files,
        extra: Split | None,
        progress: Progress,
    ) -> "_Run":
        identity = fingerprint(model, train, validation, extra, config)
        run = cls(
            network=model,
            validation=validation,
            config=config,
            files=files,
            progress=progress,
            batches=Batches(train, config.batch_size, config.seed, extra, config.extra_share),
            trainee=Trainee(model, config.precision),
            optimizer=torch.optim.SGD(
                model.parameters(),
                lr=config.lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
            ),
            averager=Averager(config.average, model),
            processes=Processes.on(next(model.parameters()).device),
            identity=identity,
            position=Position(parts=max(config.accumulate, 1)),
        )
        run.resume()
        return run

    @property
    def total_steps(self) -> int:
        return self.config.epochs * len(self.batches)

    @property
    def done(self) -> int:
        return self.position.epoch * len(self.batches) + self.position.step

    def resume(self) -> None:
        saved = load_state(self.files.state, self.identity)
        if saved is None:
            return
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.averager.load_state_dict(saved["average"])
        device = next(self.network.parameters()).device
        self.position = Position(**saved["position"])
        self.position.sums = {k: v.to(device) for k, v in self.position.sums.items()}

    def save(self) -> None:
        self.check_finite()
        self.saved = time.monotonic()
        if self.processes.writes:
            parts = {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.averager.state_dict(),
                "position": {k: getattr(self.position, k) for k in vars(self.position)},
            }
            save_state(self.files.state, self.identity, parts)

    def epoch(self) -> None:
        for batch in self.batches.epoch(self.position.epoch, start=self.position.step):
            self.step(batch)
            self.position.step += 1
            ended = self.position.step == len(self.batches)
            share = self.done / self.total_steps
            self.averager.update(self.network, share, epoch_end=ended)
            self.report()
            if not ended and self.due():
                self.save()
        self.close_epoch()

    def due(self) -> bool:
        every = self.config.checkpointing
        by_steps = every.steps is not None and self.position.step % every.steps == 0
        return by_steps or time.monotonic() - self.saved >= every.seconds

    def step(self, batch: Batch) -> None:
        """One optimizer step, again with smaller parts where memory runs out and may be cut."""
        share = self.processes.share(batch)
        try:
            self.differentiate(share)
        except torch.OutOfMemoryError:
            if self.config.accumulate != AUTOMATIC or self.position.parts >= len(share):
                raise
            self.position.parts *= 2
            torch.cuda.empty_cache()
            self.differentiate(share)
        self.processes.average_gradients(self.network, rows=len(share), total=len(batch))
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        if self.position.step % LOOK_EVERY == 0 or not share.images.is_cuda:
            self.check_finite()
        self.optimizer.step()

    def differentiate(self, batch: Batch) -> None:
        """Leave the gradient of the batch's mean loss in the weights."""
        config, epoch = self.config, self.position.epoch
        progress = self.done / self.total_steps
        objective = objective_at(config.objective, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * config.schedule(progress)
        self.optimizer.zero_grad(set_to_none=True)
        parameter = next(self.network.parameters())
        sums: dict[str, Tensor] = {}
        for part in batch.parts(self.position.parts):
            on_device = part.to(parameter.device, parameter.dtype)
            noise = SampleNoise(config.seed, part.ids, f"train/{epoch}")
            x = config.augment(on_device.images, noise.substream("augment"))
            with seeded_dropout(self.network, config.seed, epoch, part.ids[0]):
                terms = objective(self.trainee, x, on_device.labels, config.threat, noise=noise)
            torch.autograd.backward(terms.total.sum() / len(batch))
            add_to(sums, {"loss": terms.total.detach(), **terms.parts})
        add_to(self.position.sums, sums)
        self.position.samples += len(batch)

    def check_finite(self) -> None:
        loss = self.position.sums.get("loss")
        if loss is not None and not bool(loss.isfinite()):
            raise TrainingError(
                f"{self.files.name}: the loss is not finite in epoch {self.position.epoch + 1} of "
                f"{self.config.epochs}, step {self.position.step + 1}; the last good state is kept "
                f"in {self.files.folder}: lower lr ({self.config.lr:g}) or set clip_norm"
            )

    def report(self) -> None:
        if not self.processes.writes:
            return
        look = self.done % LOOK_EVERY == 0 or next(self.network.parameters()).device.type == "cpu"
        loss = self.position.sums["loss"] / self.position.samples if look else None
        note = f"loss {float(loss):.4f}" if loss is not None else ""
        self.progress(f"train {self.files.name}", self.done, self.total_steps, note)

    def close_epoch(self) -> None:
        """Log and judge the epoch, keep its weights, and save the state of the next."""
        self.check_finite()
        self.processes.average_buffers(self.network)
        position, config = self.position, self.config
        number = position.epoch + 1
        row: Row = {"epoch": number, "lr": float(self.optimizer.param_groups[0]["lr"])}
        row |= {k: float(v) / position.samples for k, v in position.sums.items()}
        state = self.averager.averaged(self.network)
        if number % config.validation.every == 0 or number == config.epochs:
            with swapped(self.network, state):
                rates = judge(
                    self.network,
                    self.validation,
                    config.threat,
                    config.validation,
                    seed=config.seed,
                )
            row |= asdict(rates)
            if rates.better_than(best_rates(position.history)):
                position.best_epoch = number
                self.keep(self.files.best, state)
        self.keep(self.files.last, state)
        position.history.append(row)
        if self.processes.writes:
            self.files.write_log(position.history)
        self.position = replace(position, epoch=number, step=0, sums={}, samples=0)
        self.save()

    def keep(self, path: Path, state: Mapping[str, Tensor]) -> None:
        if self.processes.writes:
            save_weights(path, state)

    def result(self) -> TrainResult:
        self.processes.wait()
        files, position = self.files, self.position
        assert position.best_epoch is not None
        wanted = files.best if self.config.keep == "best" else files.last
        self.network.load_state_dict(load_weights(wanted))
        return TrainResult(
            self.network.eval(),
            tuple(position.history),
            position.best_epoch,
            files.best,
            files.last,
            files.log,
        )


def best_rates(history: list[Row]) -> Rates | None:
    """The best judgement so far."""
    best: Rates | None = None
    for row in history:
        if "robust_inaccuracy" in row:
            rates = Rates(row["natural_accuracy"], row["robust_accuracy"], row["robust_inaccuracy"])
            best = rates if rates.better_than(best) else best
    return best


def add_to(sums: dict[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Add the sum over samples of each value, in place."""
    for name, value in values.items():
        total = value.sum()
        sums[name] = sums[name] + total if name in sums else total


@contextmanager
def swapped(network: nn.Module, state: Mapping[str, Tensor]) -> Iterator[None]:
    """Run a block with other weights in the network, then put its own back."""
    own = {k: v.detach().clone() for k, v in network.state_dict().items()}
    network.load_state_dict(state)
    try:
        yield
    finally:
        network.load_state_dict(own)


@contextmanager
def seeded_dropout(network: nn.Module, *parts: object) -> Iterator[None]:
    """Make dropout masks depend on ``parts`` alone; the global generator gets its state back."""
    layers = [m for m in network.modules() if isinstance(m, _DropoutNd) and m.p > 0]
    if not layers:
        yield
        return
    device = next(network.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(stable_seed("dropout", *parts))
        yield
