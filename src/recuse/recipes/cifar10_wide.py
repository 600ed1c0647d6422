"""CIFAR-10 on a GPU: networks of full width, trained longer than a processor's hours allow."""

from collections.abc import Sequence
from dataclasses import replace

from recuse.attacks import Apgd, MaskingCheck, Pgd
from recuse.data import Cifar10, Source, Subset
from recuse.data.augment import CropFlip
from recuse.evaluation import Evaluation, judged_radii
from recuse.models import ResNet, WideResNet
from recuse.recipes.cifar10 import MEAN, STD
from recuse.recipes.config import Earlier, Fresh, ModelPlan, RunConfig
from recuse.recipes.real_images import (
    AT,
    THREE_STEPS,
    adversarially_trained,
    by_two_losses,
    fine_tuned,
    fine_tunings,
    training,
)
from recuse.threat import Threat
from recuse.training import Robust, Standard

NEAR, FAR = "2/255", "8/255"
BETAS = (0.3,)
# Fewer steps teach nothing that holds at 8/255.
TEN_STEPS = Pgd(steps=10, step_size_relative=0.25)
BATCH, LR_FACTOR = 256, 2.0
# The first test images, of which there are lossless ones too.
JUDGED = 1017


def cifar10_wide(seed: int = 0, quick: bool = False) -> RunConfig:
    """Cores and robust networks: a narrow ResNet-18, a whole one, a WRN-28-10; the second at 8/255.

    Trained on the JPEG training images and judged on JPEG test images, so that no other file is
    needed. What costs the most comes last; ``recuse run --minutes`` does a part.

    Args:
        seed: Of weights, order, noise and attacks.
        quick: A few images and tiny networks.
    """
    data: Source = Cifar10(train="jpeg", test="jpeg")
    narrow, resnet, wide = ResNet(width=32), ResNet(), WideResNet()
    epochs, far, steps = ((40, 40, 0), (40, 40, 4), (25, 15, 2)), (10, 3), 40
    if quick:
        data = Subset(data, 128, 32, 8)
        narrow, resnet, wide = ResNet(width=2), ResNet(width=2), WideResNet(depth=10, width=1)
        epochs, far, steps = ((1, 1, 0), (1, 1, 1), (1, 1, 1)), (1, 1), 3
    networks = [Fresh(network, mean=MEAN, std=STD) for network in (narrow, resnet, wide)]
    plans = (
        *family("narrow-", networks[0], epochs[0], seed=seed),
        *family("", networks[1], epochs[1], seed=seed),
        *farther(far, seed=seed),
        *family("wide-", networks[2], epochs[2], seed=seed),
    )
    radii = tuple(Threat("linf", radius).eps for radius in (NEAR, FAR))
    attacked = Evaluation(
        "linf",
        judged_radii(radii),
        Apgd(steps),
        seed=seed,
        limit=JUDGED,
        batch_size=512,
        recheck=None if quick else MaskingCheck(),
    )
    return RunConfig(
        recipe="cifar10_wide",
        data=data,
        models=tuple(map(on_a_gpu, plans)),
        judgements=by_two_losses(attacked),
        eps=radii,
        gallery=0,
    )


def family(prefix: str, start: Fresh, epochs: Sequence[int], *, seed: int) -> tuple[ModelPlan, ...]:
    """A core, an adversarially trained network, and what is fine-tuned from it.

    Args:
        prefix: What their names begin with.
        start: Fresh weights.
        epochs: Of the core, of the adversarial training, of each fine-tuning (0 for none).
        seed: Of weights, order and noise.
    """
    clean, near = Standard(smoothing=0.1), Threat("linf", NEAR)
    core = training(clean, near, epochs[0], CropFlip(), seed=seed)
    tags = {"role": "core", "loss": "standard"}
    begin = adversarially_trained(start, NEAR, epochs[1], CropFlip(), seed=seed, prefix=prefix)
    tuned = fine_tunings(BETAS, THREE_STEPS, far=False) if epochs[2] else {}
    return (
        ModelPlan(f"{prefix}core", start, core, tags, seed=seed, half=True),
        begin,
        *fine_tuned(begin.name, tuned, NEAR, epochs[2], CropFlip(), seed=seed, prefix=prefix),
    )


def farther(epochs: Sequence[int], *, seed: int) -> tuple[ModelPlan, ...]:
    """The ResNet-18 brought to 8/255 by AT in ten steps, and what is fine-tuned from there.

    Args:
        epochs: Of that AT, and of each fine-tuning.
        seed: Of order and noise.
    """
    threat, name = Threat("linf", FAR), "adversarial-8"
    objective = Robust(AT, TEN_STEPS)
    train = training(objective, threat, epochs[0], CropFlip(), seed=seed, lr=0.05)
    tags = {"role": "robust", "loss": "at", "trained_at": FAR}
    tuned = fine_tunings(BETAS, TEN_STEPS, far=False)
    return (
        ModelPlan(name, Earlier("adversarial"), train, tags, half=True),
        *fine_tuned(name, tuned, FAR, epochs[1], CropFlip(), seed=seed),
    )


def on_a_gpu(plan: ModelPlan) -> ModelPlan:
    """The plan in batches that keep a GPU at work, and with little time spent on validation."""
    train = plan.train
    assert train is not None
    validation = replace(train.validation, limit=1000, batch_size=500)
    return replace(
        plan,
        train=replace(train, batch_size=BATCH, lr=LR_FACTOR * train.lr, validation=validation),
    )


__all__ = ["cifar10_wide"]
