"""CIFAR-10: a robust network from scratch, then AT, TRADES and ERA from it, and a core."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from recuse.data import Cifar10, Source, Subset
from recuse.data.augment import CropFlip
from recuse.models import ResNet
from recuse.recipes.config import Earlier, Fresh, ModelPlan, Pretrained, RunConfig
from recuse.recipes.real_images import (
    THREE_STEPS,
    adversarially_trained,
    fine_tuned,
    fine_tunings,
    judged,
    robust_networks,
)

CORE = "cifar10_resnet56_std"
BETAS: tuple[float, ...] = (0.3, 1.0, 0.1, 3.0)
RADII: tuple[str, ...] = ("2/255", "4/255")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
WIDTH, EPOCHS = 32, (12, 2)
TWICE = ("trades", f"era-at-{BETAS[0]:g}")


def cifar10(seed: int = 0, quick: bool = False) -> RunConfig:
    """Train a robust network, and fine-tune it by AT, TRADES and ERA at two radii.

    Trained on the JPEG training images, lossless where there is a lossless one; judged on the
    lossless test images, in front of a published core. What is compared most, TRADES and ERA
    holding AT, is fine-tuned at the first radius from the first network trained on for longer,
    too: with AT, and again with a second seed.

    Args:
        seed: Of weights, order, noise and attacks.
        quick: A few images, a narrow network, one radius and one beta.
    """
    data: Source = Cifar10(train="mixed", test="lossless")
    radii, betas, width, epochs = RADII, BETAS, WIDTH, EPOCHS
    if quick:
        data = Subset(Cifar10(train="lossless"), 400, 100, 20)
        radii, betas, width, epochs = RADII[:1], BETAS[:1], 4, (1, 1)
    start = Fresh(ResNet(width=width), mean=MEAN, std=STD)
    plans = (
        ModelPlan("core", Pretrained(CORE), None, {"role": "core", "loss": "standard"}),
        *robust_networks(start, radii, betas, epochs, CropFlip(), seed=seed),
        *(() if quick else longer(seed)),
    )
    return judged("cifar10", data, plans, seed=seed)


def longer(seed: int) -> list[ModelPlan]:
    """The first network trained on for 20 epochs, and what is compared most from there, twice."""
    start, radius, name = Earlier("adversarial"), RADII[0], "longer-"
    plan = adversarially_trained(start, radius, 20, CropFlip(), seed=seed, prefix=name)
    assert plan.train is not None
    fewer = replace(plan.train.validation, limit=1000)
    plan = replace(plan, train=replace(plan.train, validation=fewer))
    own, other = {"start": plan.name}, seed + 1
    again = own | {"seed": other}
    return [
        plan,
        *compared(plan.name, (*TWICE, "at"), own, seed=seed, prefix=name),
        *compared(plan.name, TWICE, again, seed=other, prefix=f"{name}seed{other}-"),
    ]


def compared(
    start: str, names: Sequence[str], tags: Mapping[str, Any], *, seed: int, prefix: str
) -> list[ModelPlan]:
    """Some of the fine-tunings of the first radius, from a network of the run."""
    objectives = fine_tunings(BETAS, THREE_STEPS, far=False)
    chosen = {name: objectives[name] for name in names}
    plans = fine_tuned(start, chosen, RADII[0], EPOCHS[1], CropFlip(), seed=seed, prefix=prefix)
    return [replace(plan, tags={**plan.tags, **tags}) for plan in plans]


__all__ = ["cifar10"]
