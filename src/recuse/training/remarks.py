"""What a person should know of a training while it runs, a sentence each; empty for nothing."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from recuse.models.prepared import imitates_bf16
from recuse.training.config import TrainConfig


def of_parts(network: nn.Module, config: TrainConfig, parts: int) -> str:
    """Where batch norm does not see the batch that was asked for."""
    mode = getattr(config.objective, "batch_norm", "eval")
    normed = any(isinstance(m, _BatchNorm) for m in network.modules())
    if parts == 1 or mode != "train" or not normed:
        return ""
    return f"batch norm sees one of {parts} parts of a batch at a time"


def of_precision(network: nn.Module, config: TrainConfig) -> str:
    """Where a run goes on without the precision that it began with."""
    if config.precision != "bf16" or not imitates_bf16(next(network.parameters()).device):
        return ""
    return (
        "this machine has no bf16 and imitates it, many times slower; nothing is lost by stopping, "
        "and the same command goes on from here where there is bf16"
    )
