"""A training run in progress: what it holds, how it steps, what it leaves at each epoch's end."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from recuse.data.split import Split
from recuse.errors import DataError, PausedError, TrainingError
from recuse.models.checkpoint import weights_sha256
from recuse.modes import evaluation_mode
from recuse.progress import Progress
from recuse.training import remarks
from recuse.training.averaging import Averager, swapped
from recuse.training.batches import Batch, Batches
from recuse.training.config import TrainConfig
from recuse.training.forward import Trainee
from recuse.training.processes import Processes
from recuse.training.state import (
    Files,
    Position,
    Row,
    fingerprint,
    load_state,
    save_state,
    save_weights,
)
from recuse.training.steps import add_to, differentiate
from recuse.training.validation import Rates, best_rates, collapse, judge

# A look at the loss makes a GPU wait, so there it is looked at only every so many steps.
LOOK_EVERY = 25
# Images whose answers tell a network that blew up, before its weights are written.
PROBED = 32
AUTOMATIC = 0


@dataclass(eq=False)
class TrainingRun:
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
    ) -> "TrainingRun":
        """A run at its beginning, or where a killed one left off."""
        identity = fingerprint(model, train, validation, extra, config, progress)
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
        run.tell(remarks.of_parts(model, config, run.position.parts))
        run.tell(remarks.of_precision(model, config))
        return run

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.epochs * len(self.batches)

    @property
    def done(self) -> int:
        """Steps done."""
        return self.position.epoch * len(self.batches) + self.position.step

    def resume(self) -> None:
        """Go on from the saved state, or save the initial one."""
        saved = load_state(self.files.state, self.identity, self.processes)
        if saved is None:
            self.save()
            return
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.averager.load_state_dict(saved["average"])
        device = next(self.network.parameters()).device
        self.position = Position(**saved["position"])
        self.position.sums = {k: v.to(device) for k, v in self.position.sums.items()}

    def save(self) -> None:
        """Save the state."""
        before, self.saved = self.saved, time.monotonic()
        self.position.seconds += self.saved - before
        if self.processes.first:
            parts = {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.averager.state_dict(),
                "position": {k: getattr(self.position, k) for k in vars(self.position)},
            }
            save_state(self.files.state, self.identity, parts)

    def epoch(self) -> None:
        """Do what is left of the current epoch."""
        deal, position = self.processes.deal(self.position.parts), self.position
        for batch in self.batches.epoch(position.epoch, start=position.step, deal=deal):
            self.step(batch)
            self.position.step += 1
            ended = self.position.step == len(self.batches)
            share = self.done / self.total_steps
            self.averager.update(self.network, share, epoch_end=ended)
            try:
                self.report()
            except PausedError:
                self.keep_state()
                raise
            if not ended and self.due():
                self.keep_state()
        self.close_epoch()

    def keep_state(self) -> None:
        """Save the state in mid-epoch, unless the network blew up."""
        if self.processes.first:
            self.check_sound()
            self.save()

    def due(self) -> bool:
        """Whether it is time to save the state in mid-epoch."""
        every = self.config.checkpointing
        by_steps = every.steps is not None and self.position.step % every.steps == 0
        return by_steps or time.monotonic() - self.saved >= every.seconds

    def step(self, batch: Batch) -> None:
        """One optimizer step, again with smaller parts where memory runs out and may be cut."""
        while not self.try_differentiate(batch):
            self.position.parts *= 2
            torch.cuda.empty_cache()
            self.tell(remarks.of_parts(self.network, self.config, self.position.parts))
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        if self.should_check_loss():
            self.check_finite()
        self.optimizer.step()

    def tell(self, note: str) -> None:
        """Say something of the run, in the first process, if there is something to say."""
        if note and self.processes.first:
            self.progress(f"train {self.files.name}", self.done, self.total_steps, note)

    def should_check_loss(self) -> bool:
        """Whether this step may wait for the loss: always on a CPU, where it is at hand."""
        on_cpu = next(self.network.parameters()).device.type == "cpu"
        return on_cpu or self.position.step % LOOK_EVERY == 0

    def try_differentiate(self, batch: Batch) -> bool:
        """Differentiate; False if memory ran out and the batch may be cut further."""
        try:
            self.differentiate(batch)
        except torch.OutOfMemoryError:
            if self.config.accumulate != AUTOMATIC or self.position.parts >= len(batch):
                raise
            return False
        return True

    def differentiate(self, batch: Batch) -> None:
        """Leave the gradient in the weights and add to the epoch's sums."""
        config, position = self.config, self.position
        progress = self.done / self.total_steps
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * config.schedule(progress)
        sums = differentiate(
            self.trainee,
            batch,
            config,
            progress=progress,
            epoch=position.epoch,
            parts=position.parts,
            processes=self.processes,
        )
        if position.step and "passes" not in position.sums:
            sums.pop("passes", None)  # of the steps before, an older version did not count them
        add_to(position.sums, sums)
        position.samples += batch.whole

    def check_finite(self) -> None:
        """Stop if the loss is not a number any more."""
        loss = self.position.sums.get("loss")
        if loss is not None and not bool(loss.isfinite()):
            raise self.divergence_error("the loss is not finite", self.position.step + 1)

    def check_sound(self) -> None:
        """Stop if the last step left a network that gives no numbers; the loss is one before it."""
        self.check_finite()
        x = self.validation.head(PROBED).images.to(next(self.network.parameters()))
        with evaluation_mode(self.network), torch.no_grad():
            answers: Tensor = self.network(x)
        if not bool(answers.isfinite().all()):
            raise self.divergence_error("the network's answers are not finite", self.position.step)

    def check_agreement(self) -> None:
        """Stop if the processes hold different weights, which each step should leave equal."""
        if self.processes.count > 1 and not self.processes.agree(weights_sha256(self.network)):
            raise TrainingError(
                f"{self.files.name}: the processes hold different weights after epoch "
                f"{self.position.epoch + 1}: a layer other than batch norm keeps something of the "
                "rows that it saw, which is not exchanged; train in one process"
            )

    def divergence_error(self, what: str, step: int) -> TrainingError:
        """What to say of weights that are not worth saving."""
        return TrainingError(
            f"{self.files.name}: {what} in epoch {self.position.epoch + 1} of "
            f"{self.config.epochs}, step {step}; the state saved before is "
            f"in {self.files.folder}: lower lr ({self.config.lr:g}) or set clip_norm"
        )

    def report(self) -> None:
        """Tell the progress callback."""
        if self.processes.first:
            sums, seen = self.position.sums, self.position.samples
            note = f"loss {float(sums['loss'] / seen):.4f}" if self.should_check_loss() else ""
            self.progress(f"train {self.files.name}", self.done, self.total_steps, note)

    def close_epoch(self) -> None:
        """Log and judge the epoch, keep its weights, and save the state of the next."""
        self.check_agreement()
        self.check_sound()
        position, config = self.position, self.config
        number = position.epoch + 1
        row: Row = {"epoch": number, "lr": float(self.optimizer.param_groups[0]["lr"])}
        row |= {k: float(v) / position.samples for k, v in position.sums.items()}
        state = self.averager.averaged(self.network)
        judged = number % config.validation.every == 0 or number == config.epochs
        if judged:
            rates = self.judged(state)
            if said := collapse(position.history, rates, number, config.validation.collapse):
                raise TrainingError(
                    f"{self.files.name}: {said}; give it more steps, or lower lr "
                    f"({config.lr:g}); the weights of before are in {self.files.folder}"
                )
            row |= asdict(rates)
            if rates.better_than(best_rates(position.history)):
                position.best_epoch = number
                self.keep(self.files.best, state)
        position.history.append(row)
        if self.processes.first:
            self.files.write_log(position.history)
        self.position = replace(position, epoch=number, step=0, sums={}, samples=0)
        # Epochs of seconds, as on a GPU, are not each worth writing hundreds of megabytes.
        if judged or self.due():
            self.keep(self.files.last, state)
            self.save()

    def judged(self, state: Mapping[str, Tensor]) -> Rates:
        """The rates of a state on validation."""
        config = self.config
        try:
            with swapped(self.network, state):
                shown, how, group = self.validation, config.validation, self.processes
                return judge(
                    self.network, shown, config.threat, how, seed=config.seed, processes=group
                )
        except DataError as error:
            what = f"validation cannot attack the network ({error})"
            raise self.divergence_error(what, self.position.step) from error

    def keep(self, path: Path, state: Mapping[str, Tensor]) -> None:
        """Write weights, in the first process."""
        if self.processes.first:
            save_weights(path, state)
