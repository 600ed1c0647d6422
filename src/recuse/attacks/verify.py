"""The border of every attack: the model as found, the clean point, a fresh look at the result."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Labels, Logits, Mask
from recuse.errors import ConfigError, DataError
from recuse.modes import evaluation_mode
from recuse.protocols import Criterion
from recuse.results import AttackOutcome
from recuse.threat import Threat


def require_precision(x: Tensor) -> None:
    """Refuse images in which a perturbation drowns in rounding.

    Raises:
        ConfigError: Images in float16 or bfloat16.
    """
    if x.dtype in (torch.bfloat16, torch.float16):
        kind = str(x.dtype).removeprefix("torch.")
        raise ConfigError(
            f"images in {kind} cannot be attacked: rounding is as large as the perturbation; keep "
            "images and weights in float32 and prepare the network with precision 'bf16'"
        )


def full_precision(logits: Tensor) -> Tensor:
    """Half-precision logits as float32; others as they are."""
    half = logits.dtype in (torch.bfloat16, torch.float16)
    return logits.float() if half else logits


def forward(model: nn.Module, x: Images) -> Logits:
    """Logits without a graph, at least in float32."""
    with torch.no_grad():  # which a network may undo by itself
        return full_precision(model(x)).detach()


def require_answers(logits: Logits) -> Logits:
    """The logits, if they are numbers: NaN has a largest class too, and says nothing.

    Raises:
        DataError: The model returned NaN.
    """
    if count := int(logits.isnan().any(dim=1).sum()):
        raise DataError(
            f"the model returned NaN at {count} of {len(logits)} inputs in the middle of an "
            "attack; repair it, or the machine that computes it: what is finished is kept"
        )
    return logits


def verify(
    model: nn.Module, x: Images, x_adv: Images, y: Labels, threat: Threat, criterion: Criterion
) -> Mask:
    """Whether each ``x_adv`` is adversarial, judged by a fresh forward pass outside any attack.

    Args:
        model: The classifier, in the precision the verdict shall hold in.
        x: The clean inputs.
        x_adv: The claimed adversarial inputs.
        y: Reference labels.
        threat: The set ``x_adv`` must lie in (and in [0, 1]).
        criterion: What counts as adversarial.

    Returns:
        True where the point is inside the threat and satisfies the criterion.

    Raises:
        DataError: The model returned NaN.
    """
    logits = forward(model, x_adv)
    if not getattr(criterion, "counts_no_answer", False):
        # A point that is no number itself is that of a gradient that was none, which is told apart.
        require_answers(logits[x_adv.flatten(1).isfinite().all(dim=1)])
    return threat.contains(x_adv, x) & criterion(x_adv, logits, y)


def verified(
    outcome: AttackOutcome,
    model: nn.Module,
    x: Images,
    y: Labels,
    threat: Threat,
    criterion: Criterion,
) -> AttackOutcome:
    """The outcome with every claimed success verified; a claim that fails is no success.

    Costs one forward pass per claimed success, which is added to its count.
    """
    claimed = outcome.success.nonzero().squeeze(1)
    if claimed.numel() == 0:
        return outcome
    success, forwards = outcome.success.clone(), outcome.forwards.clone()
    success[claimed] = verify(
        model, x[claimed], outcome.x_adv[claimed], y[claimed], threat, criterion
    )
    forwards[claimed] += 1
    return replace(outcome, success=success, forwards=forwards)


__all__ = [
    "evaluation_mode",
    "forward",
    "full_precision",
    "require_answers",
    "require_precision",
    "verified",
    "verify",
]
