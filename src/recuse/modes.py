"""Networks in eval mode for a while, every part back in its own mode afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Run a block with the whole model in eval mode, then give every part its mode back.

    On a GPU its products are those of float32 (:func:`full_products`).
    """
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        with full_products():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def full_products() -> Iterator[None]:
    """Run a block in which no GPU rounds float32 factors to TensorFloat-32.

    It does so in convolutions unless it is told otherwise, to 10 bits behind the binary point:
    bounds of such products do not hold, and verdicts are of another function than on a processor.
    """
    owners = _product_settings()
    before = [getattr(owner, name) for owner, name, _ in owners]
    try:
        for owner, name, full in owners:
            setattr(owner, name, full)
        yield
    finally:
        for (owner, name, _), value in zip(owners, before, strict=True):
            setattr(owner, name, value)


def _product_settings() -> list[tuple[Any, str, Any]]:
    """What decides it, and the value that keeps float32.

    PyTorch refuses to read its older switches once a newer one was set.
    """
    if not torch.cuda.is_available():
        return []
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    newer = getattr(convolutions, "conv", None)
    if newer is None:
        return [(owner, "allow_tf32", False) for owner in (convolutions, products)]
    return [(owner, "fp32_precision", "ieee") for owner in (newer, products)]


__all__ = ["evaluation_mode", "full_products"]
