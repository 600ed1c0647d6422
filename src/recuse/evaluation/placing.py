"""Images brought to where a model computes, and its checked answers on them."""

import torch
from torch import nn

from recuse.data.split import Split
from recuse.errors import DataError
from recuse.images import dtype_of
from recuse.models.inputs import logits_of

# Images that tell whether a model fits at all, before anything is written.
FIRST = 16


def placed(model: nn.Module, images: torch.Tensor, name: str) -> torch.Tensor:
    """Images where a model computes, in its precision.

    Raises:
        DataError: Weights in half precision, in which neighbouring images are one.
    """
    weights = next((p for p in model.parameters() if p.is_floating_point()), None)
    if weights is None:
        return images
    if torch.finfo(weights.dtype).bits < torch.finfo(torch.float32).bits:
        raise DataError(
            f"the weights of {name!r} are in {dtype_of(weights)}, in which perturbations are "
            "lost; write model.float()"
        )
    return images.to(weights.device, weights.dtype)


def clean_logits(
    model: nn.Module, x: torch.Tensor, batch: Split, *, name: str = "the model"
) -> torch.Tensor:
    """Float32 logits of unperturbed images, checked.

    Raises:
        DataError: The model cannot take these images, has fewer classes than the data, or
            returns something other than logits or values that are not finite.
    """
    # A network that writes into its images is refused by its answers, not before it has seen some.
    logits = logits_of(model, x.clone(), name).float()
    if logits.shape[1] < batch.classes:
        raise DataError(
            f"{name!r} tells {logits.shape[1]} classes apart, but {batch.name} has the "
            f"{batch.classes} classes {', '.join(batch.label_names[:12])}"
            f"{', …' if batch.classes > 12 else ''}; use a model trained for this data set"
        )
    if not bool(logits.isfinite().all()):
        raise DataError(f"{name!r} returns NaN or infinity on {batch.name}; check its weights")
    return logits


__all__ = ["FIRST", "clean_logits", "placed"]
