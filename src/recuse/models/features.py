"""What flows through a network: a tensor, or its stand-in while ``torch.fx`` traces the graph.

Tracing lets interval bounds and batch-norm folding read a network's graph, so every ``forward``
of this package accepts a proxy. Type checkers see a plain tensor.
"""

from typing import TYPE_CHECKING

import torch.fx
from torch import Tensor

if TYPE_CHECKING:
    Features = Tensor
else:
    Features = Tensor | torch.fx.Proxy

__all__ = ["Features"]
