"""The gradient of one batch: augmentation, objective, backward, in parts if memory is short."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from recuse.composition.cost import counted
from recuse.random import SampleNoise, stable_seed
from recuse.results import LossTerms
from recuse.training.batch_norm import whole_batch_statistics
from recuse.training.batches import Batch
from recuse.training.config import TrainConfig
from recuse.training.forward import Trainee
from recuse.training.ibp import BY_BOUNDS
from recuse.training.processes import ALONE, Processes


@dataclass(eq=False)
class Waiting:
    """The weighted share of a batch in parts, until the mean of all its weights is known.

    Attributes:
        weight: Sum of the weights.
        gradients: By parameter, for a mean of 1.
        sums: Over samples, of what the share adds to the log, likewise.
    """

    weight: Tensor | None = None
    gradients: dict[nn.Parameter, Tensor] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)

    def take(self, terms: LossTerms, parameters: list[nn.Parameter], *, rows: int) -> LossTerms:
        """Take the share out of the terms of one part of a batch of ``rows``; return the rest.

        Costs a backward pass, since the share and the rest are scaled differently.
        """
        weighted = terms.weighted
        if weighted is None:
            return terms
        loss = weighted.mean * weighted.share.sum() / rows
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for parameter, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                before = self.gradients.get(parameter)
                self.gradients[parameter] = gradient if before is None else before + gradient
        logged = {"loss": weighted.share.detach(), **weighted.parts}
        add_to(self.sums, {k: weighted.mean * v.sum() for k, v in logged.items()})
        weight = weighted.mean * len(weighted.share)
        self.weight = weight if self.weight is None else self.weight + weight
        rest = {k: v - weighted.parts.get(k, 0.0) for k, v in terms.parts.items()}
        return LossTerms(terms.total - weighted.share, rest, terms.correct)

    def settle(self, mean: Tensor) -> dict[str, Tensor]:
        """Add the share to the gradients, given the mean weight; return what it adds to the log."""
        for parameter, gradient in self.gradients.items():
            scaled = gradient / mean
            parameter.grad = scaled if parameter.grad is None else parameter.grad + scaled
        return {k: v / mean for k, v in self.sums.items()}


def differentiate(
    trainee: Trainee,
    batch: Batch,
    config: TrainConfig,
    *,
    progress: float,
    epoch: int,
    parts: int,
    processes: Processes = ALONE,
) -> dict[str, Tensor]:
    """Leave the gradient of the batch's mean loss in the weights, in every process.

    All randomness is keyed by (seed, epoch, sample id).

    Args:
        trainee: The network in training.
        batch: The rows of the step that were dealt to this process.
        config: Objective, threat, augmentation, seed.
        progress: Share of training that is done.
        epoch: Number of the epoch, from 0.
        parts: Parts the batch is cut into.
        processes: Those that share each part (:meth:`Processes.deal`).

    Returns:
        Sums over all samples of the loss and its parts, for the log, and of the passes that the
        objective took: a backward pass to the weights counts as two, of activations and of
        weights. What several parts or processes add is left out, and objectives by interval
        bounds, which are no passes of the network, have none.
    """
    trainee.zero_grad(set_to_none=True)
    parameters = [p for p in trainee.parameters() if p.requires_grad]
    device, dtype = parameters[0].device, parameters[0].dtype
    sums: dict[str, Tensor] = {}
    waiting = Waiting()
    for share in processes.shares(batch, parts):
        own = share.batch.to(device, dtype)
        noise = SampleNoise(config.seed, own.ids, f"train/{epoch}")
        x = config.augment(own.images, noise.substream("augment"))
        with (
            seeded_dropout(trainee, config.seed, epoch, own.ids[0]),
            whole_batch_statistics(processes, counts=share.counts),
            counted(trainee.network) as learnt,
            counted(trainee.copy) as attacked,
        ):
            terms = config.objective(
                trainee, x, own.labels, config.threat, noise=noise, progress=progress
            )
        terms = share.counted(terms)
        if parts > 1 or processes.count > 1:
            terms = waiting.take(terms, parameters, rows=batch.whole)
            learnt.backwards = 0
        torch.autograd.backward(terms.total.sum() / batch.whole)
        add_to(sums, {"loss": terms.total.detach(), **terms.parts})
        if terms.correct is not None:
            add_to(sums, {"train_accuracy": terms.correct.float()})
        if not isinstance(config.objective, BY_BOUNDS):
            passes = attacked.total + learnt.forwards + 2 * learnt.backwards
            add_to(sums, {"passes": torch.full((), passes * share.counts, device=device)})
    if waiting.weight is not None:
        add_to(sums, waiting.settle(processes.summed(waiting.weight) / batch.whole))
    processes.sum_gradients(parameters)
    return processes.sum_by_name(sums)


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
