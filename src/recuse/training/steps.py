"""The gradient of one batch: augmentation, objective, backward, in parts if memory is short."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from recuse.protocols import Objective
from recuse.random import SampleNoise, stable_seed
from recuse.training.batches import Batch
from recuse.training.config import TrainConfig
from recuse.training.forward import Trainee


def differentiate(
    trainee: Trainee,
    batch: Batch,
    objective: Objective,
    config: TrainConfig,
    *,
    epoch: int,
    parts: int,
) -> dict[str, Tensor]:
    """Leave the gradient of the batch's mean loss in the weights.

    All randomness is keyed by (seed, epoch, sample id).

    Args:
        trainee: The network in training.
        batch: The rows to compute on.
        objective: The objective as it stands now.
        config: Threat, augmentation, seed.
        epoch: Number of the epoch, from 0.
        parts: Parts the batch is cut into.

    Returns:
        Sums over samples of the loss and its parts, for the log.
    """
    trainee.zero_grad(set_to_none=True)
    parameter = next(trainee.parameters())
    sums: dict[str, Tensor] = {}
    for part in batch.parts(parts):
        on_device = part.to(parameter.device, parameter.dtype)
        noise = SampleNoise(config.seed, part.ids, f"train/{epoch}")
        x = config.augment(on_device.images, noise.substream("augment"))
        with seeded_dropout(trainee, config.seed, epoch, part.ids[0]):
            terms = objective(trainee, x, on_device.labels, config.threat, noise=noise)
        torch.autograd.backward(terms.total.sum() / len(batch))
        add_to(sums, {"loss": terms.total.detach(), **terms.parts})
        if terms.correct is not None:
            add_to(sums, {"train_accuracy": terms.correct.float()})
    return sums


def add_to(sums: dict[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Add the sum over samples of each value, in place."""
    for name, value in values.items():
        total = value.sum()
        sums[name] = sums[name] + total if name in sums else total


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
