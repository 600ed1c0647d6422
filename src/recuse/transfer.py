"""Copies to a GPU that nothing waits for."""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor where a network computes, in its type.

    A plain copy to a GPU returns when the GPU has done all that it was given before, so that
    nothing is prepared for it meanwhile. From page-locked memory it returns at once.
    """
    found = tensor.to(dtype=dtype or tensor.dtype)
    if device.type != "cuda" or found.device.type != "cpu" or not found.numel():
        return found.to(device)
    return found.pin_memory().to(device, non_blocking=True)


__all__ = ["sent"]
