"""Traffic signs, from a robust network of CIFAR-10, which knows more than few signs can teach."""

from dataclasses import replace

from recuse.data import Source, Subset
from recuse.recipes.config import ModelPlan, NewHead, RunConfig
from recuse.recipes.gtsrb import AUGMENT, BETAS, RADII, SIGNS
from recuse.recipes.real_images import EPS, adversarially_trained, judged, robust_networks, training
from recuse.threat import Threat
from recuse.training import Standard

START = NewHead("recuse:cifar10-longer-adversarial")


def gtsrb_transferred(seed: int = 0, quick: bool = False) -> RunConfig:
    """The study ``gtsrb`` from the weights of a robust network of CIFAR-10, twice as wide.

    A core, two networks trained adversarially, at 1/255 and at 4/255, and AT, TRADES and ERA from
    the latter, at equal cost.

    Args:
        seed: Of last layers, order, noise and attacks.
        quick: A few images, one radius and one beta.
    """
    data: Source = SIGNS
    radii, betas, epochs = RADII, BETAS, (8, 24, 3)
    if quick:
        data = Subset(SIGNS.source, 86, 43, 43)
        radii, betas, epochs = RADII[-1:], BETAS[:1], (1, 1, 1)
    least = EPS[0]
    core = training(Standard(smoothing=0.1), Threat("linf", least), epochs[0], AUGMENT, seed=seed)
    lightly = adversarially_trained(START, least, epochs[0], AUGMENT, seed=seed)
    plans = (
        ModelPlan("core", START, core, {"role": "core", "loss": "standard"}, seed=seed, half=True),
        replace(lightly, name=f"{lightly.name}-{least.partition('/')[0]}"),
        *robust_networks(START, radii, betas, epochs[1:], AUGMENT, seed=seed),
    )
    return judged("gtsrb_transferred", data, plans, seed=seed)


__all__ = ["gtsrb_transferred"]
