"""Training: one call that trains a network, or goes on where a killed run of it left off."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from recuse.data.augment import check_augment
from recuse.data.split import Split
from recuse.errors import ConfigError
from recuse.evaluation.placing import FIRST, clean_logits
from recuse.modes import evaluation_mode
from recuse.progress import Progress, silent
from recuse.threads import suitable_threads, using_threads
from recuse.training.config import TrainConfig
from recuse.training.processes import Processes
from recuse.training.run import AUTOMATIC, TrainingRun
from recuse.training.state import Files, Row, load_weights


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What training left.

    Attributes:
        model: The network that was given, now with the weights ``config.keep`` asks for, in
            eval mode.
        history: One log row per epoch, as in the log file.
        best_epoch: Epoch (from 1) of the lowest robust inaccuracy on validation.
        seconds: Spent, validation included, in all the calls that it took.
        best: Its weights.
        last: Weights at the end.
        log: Training log, one JSON object a line.
    """

    model: nn.Module
    history: tuple[Row, ...]
    best_epoch: int
    seconds: float
    best: Path
    last: Path
    log: Path

    @property
    def passes(self) -> float | None:
        """Passes of an image in a step, forward and backward, mean over the epochs that counted.

        A backward pass to the weights is two; validation is left out. None where none counted.
        """
        counts = [row["passes"] for row in self.history if "passes" in row]
        return sum(counts) / len(counts) if counts else None


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
    mid-epoch and started again ends with the same bits as one that was not. Where a launcher such
    as ``torchrun`` started several processes that all make this call, they share each batch and
    end with the weights of one, up to rounding (:mod:`recuse.training.processes`); a run may go on
    with another number of them.

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
        DataError: The network cannot take the images, or has fewer classes; nothing is written.
        TrainingError: The loss or the network's answers are not finite any more, or robust
            accuracy on validation collapsed; the state and the weights saved before are kept.
        RecordError: A file cannot be written.
    """
    check_augment(config.augment, train)
    if {validation.classes, (extra or train).classes} != {train.classes}:
        raise ConfigError(f"{train.name} and {validation.name} have different numbers of classes")
    if len(validation) == 0:
        raise ConfigError(
            f"{validation.name} is empty, so that no epoch can be judged; give images"
        )
    _require_fit(model, train, name)
    _require_shareable(model, config)
    first = train.head(1).images.to(next(model.parameters()))
    with using_threads(suitable_threads(model, first, config.batch_size)):
        run = TrainingRun.open(model, train, validation, config, Files(out, name), extra, progress)
        while run.position.epoch < config.epochs:
            run.epoch()
        return _result(run)


def _require_fit(model: nn.Module, train: Split, name: str) -> None:
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ConfigError(f"{name!r} has no weights, so that there is nothing to train")
    if parameter.dtype in (torch.float16, torch.bfloat16):
        raise ConfigError(
            f"the network's weights are {str(parameter.dtype).removeprefix('torch.')}, in which "
            "perturbations are lost; keep them in float32 and set precision to 'bf16'"
        )
    with evaluation_mode(model):
        x = train.head(FIRST).images.to(parameter.device, parameter.dtype)
        clean_logits(model, x, train, name=name)


def _require_shareable(model: nn.Module, config: TrainConfig) -> None:
    """Refuse what several processes could not compute together; one may do as it likes."""
    if Processes.on(next(model.parameters()).device).count == 1:
        return
    if config.accumulate == AUTOMATIC:
        raise ConfigError(
            "accumulate is 0, so that each of several processes would cut its batches where its "
            "own memory runs out; say into how many parts"
        )
    if any(isinstance(m, _BatchNorm) and m.running_mean is None for m in model.modules()):
        raise ConfigError(
            "a batch norm without running statistics answers by the rows of each process; give it "
            "track_running_stats=True, or train in one process"
        )


def _result(run: TrainingRun) -> TrainResult:
    files, position = run.files, run.position
    assert position.best_epoch is not None, "the last epoch is always judged"
    wanted = files.best if run.config.keep == "best" else files.last
    run.network.load_state_dict(load_weights(wanted, run.processes))
    return TrainResult(
        run.network.eval(),
        tuple(position.history),
        position.best_epoch,
        position.seconds,
        files.best,
        files.last,
        files.log,
    )
