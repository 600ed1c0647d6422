"""A network of several outputs, or of probabilities, as one that returns logits."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recuse.errors import DataError
from recuse.models.features import Features

LOGARITHM = "log"
_ROUNDED = 1e-3


class ChosenOutput(nn.Module):
    """One of a network's outputs; one that is not among several is returned as it is.

    The logarithm of probabilities is as good as the logits, which it equals but for a constant in
    each row. Where a probability is rounded to 0 or 1 its gradient is lost, and the row counts as
    flat.

    Attributes:
        network: Returns a tensor, a tuple, a mapping or an object with fields.
        chosen: Key, field or index of the logits; empty for the only output.
        logarithm: Whether it holds probabilities, whose logarithm is taken.
    """

    named: Tensor

    def __init__(self, network: nn.Module, output: str) -> None:
        """Choose an output.

        Args:
            network: The network.
            output: ``KEY`` or ``INDEX``; ``log`` for probabilities, ``log:KEY`` for both.
        """
        super().__init__()
        first, _, rest = output.partition(":")
        self.network = network
        self.logarithm = first == LOGARITHM
        self.chosen = rest if self.logarithm else output
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        # In the state, so that the digest of the weights tells one output from another.
        self.register_buffer("named", torch.tensor(list(output.encode()), device=device))
        self.train(network.training)

    def forward(self, x: Features) -> Features:
        """The chosen output.

        Raises:
            DataError: There is none of that name, or it holds no probabilities.
        """
        outputs = self.network(x)
        found = outputs if isinstance(outputs, Tensor) else self._among(outputs)
        if not self.logarithm:
            return found
        sums = found.detach().sum(1) if found.dim() > 1 else found.detach()
        if bool((found.detach() < 0).any()) or bool(((sums - 1).abs() > _ROUNDED).any()):
            raise DataError("--output log: the outputs are no probabilities: rows must sum to 1")
        return found.clamp_min(torch.finfo(found.dtype).tiny).log()

    def _among(self, outputs: Any) -> Any:
        if isinstance(outputs, Mapping):
            known = [str(key) for key in outputs]
            if self.chosen in outputs:
                return outputs[self.chosen]
        else:
            named = getattr(outputs, "__dict__", {})
            fields: tuple[str, ...] = getattr(outputs, "_fields", None) or tuple(named)
            several = isinstance(outputs, tuple | list)
            known = [str(i) for i in range(len(outputs))] if several else list(fields)
            if self.chosen in fields:
                return getattr(outputs, self.chosen)
            if several and self.chosen in known:
                return outputs[int(self.chosen)]
        raise DataError(
            f"the model returns several outputs, {', '.join(known)}; name the one that holds the "
            f"logits (--output), not {self.chosen!r}"
        )


__all__ = ["ChosenOutput"]
