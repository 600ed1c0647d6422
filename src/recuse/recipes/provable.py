"""Networks that bounds can prove, trained at 2/255: as a stage, and as a certified core."""

from dataclasses import replace

from recuse.attacks import Apgd, Pgd
from recuse.certify import Crown
from recuse.data import Cifar10, Source, Subset
from recuse.data.augment import CropFlip
from recuse.evaluation import Evaluation, judged_radii
from recuse.evaluation.certify_dataset import Certification
from recuse.models import ConvNet5
from recuse.protocols import Objective
from recuse.recipes.cifar10 import CORE, MEAN, STD
from recuse.recipes.config import Earlier, Fresh, Judgement, ModelPlan, Pretrained, RunConfig
from recuse.recipes.real_images import EPS, training
from recuse.threat import Threat
from recuse.training import Ramp
from recuse.training.ibp import MtlIbp, Sabr

TRAINED_AT = "2/255"
ATTACK = Pgd(steps=1, step_size_relative=1.25)


def provable(seed: int = 0, quick: bool = False) -> RunConfig:
    """Train by MTL-IBP and SABR; certify by linear bounds and attack, beside a published core.

    MTL-IBP goes on from its network for half as long, at the full radius from the first step on
    and with twice the weight of the bounds.

    Trained on the JPEG training images of CIFAR-10, lossless where there is a lossless one;
    judged on the lossless test images.

    Args:
        seed: Of weights, order, noise and attacks.
        quick: A few images and a narrow network.
    """
    data: Source = Cifar10(train="mixed", test="lossless")
    width, epochs, limit = 32, 20, 500
    if quick:
        data = Subset(Cifar10(train="lossless"), 200, 50, 12)
        width, epochs, limit = 4, 1, 12
    start = Fresh(ConvNet5(width=width), mean=MEAN, std=STD)
    on = MtlIbp(alpha=0.02, attack=ATTACK, ramp=Ramp())
    trainings: dict[str, tuple[Fresh | Earlier, Objective, int]] = {
        "mtl-ibp": (start, MtlIbp(alpha=0.01, attack=ATTACK), epochs),
        "sabr": (start, Sabr(share=0.1, attack=ATTACK), epochs),
        "mtl-ibp-on": (Earlier("mtl-ibp"), on, max(epochs // 2, 1)),
    }
    radii = tuple(Threat("linf", radius).eps for radius in EPS)
    attacked = Evaluation("linf", judged_radii(radii), Apgd(steps=40), seed=seed, limit=limit)
    proven: tuple[Judgement, ...] = (attacked, Certification(Crown(), radii, radii, limit=limit))
    plans = [ModelPlan("core", Pretrained(CORE), None, {"role": "core", "loss": "standard"})]
    for name, (begin, objective, length) in trainings.items():
        threat = Threat("linf", TRAINED_AT)
        train = training(objective, threat, length, CropFlip(), seed=seed, lr=0.02)
        train = replace(train, precision="fp32")  # bounds are computed in no less
        tags = {"role": "robust", "loss": name, "trained_at": TRAINED_AT}
        plans.append(ModelPlan(name, begin, train, tags, seed=seed, half=True, judgements=proven))
    return RunConfig(
        recipe="provable",
        data=data,
        models=tuple(plans),
        judgements=(attacked,),
        eps=radii,
        gallery=0,
    )


__all__ = ["provable"]
