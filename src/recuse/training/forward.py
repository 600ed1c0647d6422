"""How a training step runs its network: which layers are in which mode, and who is attacked.

Two different functions meet in a step. The *attack* sees the network as it would be deployed:
eval mode, batch norm folded, weights frozen. The *loss* differentiates the weights; there
dropout is always active, and an objective says whether batch norm uses the statistics of the
batch (``"train"``, from scratch) or the running ones (``"eval"``, fine-tuning).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from recuse.arrays import Images, Logits
from recuse.attacks.verify import evaluation_mode, full_precision
from recuse.models.prepared import Precision, PreparedCopy, prepared_copy, store_channels_last

BatchNorm = Literal["train", "eval"]


class Trainee(nn.Module):
    """A network in training together with the faster copy of it that attacks are run on.

    Args:
        network: The network whose weights are trained.
        precision: ``"bf16"`` runs loss forwards in autocast (weights and logits stay fp32) and
            attacks a bf16 copy; ``"fp32"`` is exact.
    """

    def __init__(self, network: nn.Module, precision: Precision = "fp32") -> None:
        super().__init__()
        self.network = network
        if precision == "bf16":
            store_channels_last(network)
        self.precision = precision
        # In a tuple, so that the copy's weights are not parameters of this module.
        self._copy: tuple[PreparedCopy] = (prepared_copy(network, precision=precision),)

    def forward(self, x: Tensor) -> Tensor:
        """Logits in at least fp32."""
        bf16 = self.precision == "bf16"
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=bf16):
            out: Tensor = self.network(x)
        return full_precision(out)

    @property
    def copy(self) -> nn.Module:
        """The copy that attacks are run on."""
        return self._copy[0].module

    def attacked(self) -> nn.Module:
        """The copy to attack, brought to the current weights."""
        self._copy[0].refresh()
        return self.copy


@contextmanager
def attack_view(model: nn.Module) -> Iterator[nn.Module]:
    """The network that an attack in this step sees: eval mode, prepared where there is a copy."""
    if isinstance(model, Trainee):
        yield model.attacked()
        return
    with evaluation_mode(model):
        yield model


@contextmanager
def loss_modes(model: nn.Module, batch_norm: BatchNorm) -> Iterator[None]:
    """Run a block in training mode, batch norm as asked for; then every part gets its mode back."""
    before = [(module, module.training) for module in model.modules()]
    model.train()
    if batch_norm == "eval":
        for module, _ in before:
            if isinstance(module, _BatchNorm):
                module.eval()
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def same_as_deployed(model: nn.Module, batch_norm: BatchNorm) -> bool:
    """Whether the loss forward computes F itself, so that its logits can guide the attack too."""
    return not any(
        (isinstance(module, _BatchNorm) and batch_norm == "train")
        or (isinstance(module, _DropoutNd) and module.p > 0)
        for module in model.modules()
    )


def loss_logits(model: nn.Module, x: Images, batch_norm: BatchNorm) -> Logits:
    """Logits with a graph to the weights, at least in fp32."""
    with loss_modes(model, batch_norm):
        return full_precision(model(x))


def deployed_logits(attacked: nn.Module, x: Images) -> Logits:
    """Logits of the attacked view, without a graph."""
    with torch.no_grad():
        return full_precision(attacked(x))


__all__ = [
    "BatchNorm",
    "Trainee",
    "attack_view",
    "deployed_logits",
    "loss_logits",
    "loss_modes",
    "same_as_deployed",
]
