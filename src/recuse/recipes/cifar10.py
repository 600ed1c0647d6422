"""CIFAR-10: a robust network from scratch, then AT, TRADES and ERA from it, and a core."""

from dataclasses import replace

from recuse.data import Cifar10, Source, Subset
from recuse.data.augment import CropFlip
from recuse.models import ResNet
from recuse.recipes.config import Fresh, ModelPlan, Pretrained, RunConfig
from recuse.recipes.real_images import (
    THREE_STEPS,
    fine_tuned,
    fine_tunings,
    judged,
    robust_networks,
)

CORE = "cifar10_resnet56_std"
BETAS: tuple[float, ...] = (0.3, 1.0, 0.1, 3.0)
RADII: tuple[str, ...] = ("2/255", "4/255")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
WIDTH = 32
TWICE = ("trades", "era-at-0.3")


def cifar10(seed: int = 0, quick: bool = False) -> RunConfig:
    """Train a robust network, and fine-tune it by AT, TRADES and ERA at two radii.

    Trained on the JPEG training images, lossless where there is a lossless one; judged on the
    lossless test images, in front of a published core. What is compared most, TRADES and ERA
    holding AT, is fine-tuned at the first radius with a second seed, too.

    Args:
        seed: Of weights, order, noise and attacks.
        quick: A few images, a narrow network, one radius and one beta.
    """
    data: Source = Cifar10(train="mixed", test="lossless")
    radii, betas, width, epochs = RADII, BETAS, WIDTH, (12, 2)
    if quick:
        data = Subset(Cifar10(train="lossless"), 400, 100, 20)
        radii, betas, width, epochs = RADII[:1], BETAS[:1], 4, (1, 1)
    start = Fresh(ResNet(width=width), mean=MEAN, std=STD)
    plans = (
        ModelPlan("core", Pretrained(CORE), None, {"role": "core", "loss": "standard"}),
        *robust_networks(start, radii, betas, epochs, CropFlip(), seed=seed),
        *(() if quick else again(epochs[1], seed + 1)),
    )
    return judged("cifar10", data, plans, seed=seed)


def again(epochs: int, seed: int) -> list[ModelPlan]:
    """Fine-tunings of the first radius once more, from the same network in another order."""
    objectives = fine_tunings(BETAS, THREE_STEPS, far=False)
    chosen = {name: objectives[name] for name in TWICE}
    plans = fine_tuned(
        "adversarial", chosen, RADII[0], epochs, CropFlip(), seed=seed, prefix=f"seed{seed}-"
    )
    return [replace(plan, tags={**plan.tags, "seed": seed}) for plan in plans]


__all__ = ["cifar10"]
