"""CIFAR-10 on two cores: a pretrained core and a small robust network, fine-tuned by ERA."""

from typing import Any

from recuse.attacks import Apgd
from recuse.data import Cifar10, Source, Subset
from recuse.data.augment import CropFlip
from recuse.evaluation import Evaluation, judged_radii
from recuse.protocols import Objective
from recuse.recipes.config import ModelPlan, Pretrained, RunConfig
from recuse.threat import Threat
from recuse.training import Era, OneDrop, Robust, TrainConfig, Validation

CORE = "cifar10_resnet56_std"
ROBUST = "cifar10_resnet4b_adv2"
BETAS: tuple[float, ...] = (1.0, 0.3, 0.1)
THREAT = Threat("linf", "2/255")


def cifar10_small(
    threat: Threat = THREAT, seed: int = 0, epochs: int = 2, quick: bool = False
) -> RunConfig:
    """Fine-tune a robust network by TRADES and by ERA at three beta; compose with the core.

    Trained on the JPEG training images, judged on the lossless test images at half the
    training radius and at the whole.

    Args:
        threat: What the robust networks are fine-tuned against.
        seed: Of order, noise and attacks.
        epochs: Of fine-tuning, over 45,000 images each.
        quick: One epoch over 400 images, one beta, 20 test images.
    """
    data: Source = Cifar10(train="jpeg", test="lossless")
    betas = BETAS
    if quick:
        data = Subset(Cifar10(train="lossless"), 400, 100, 20)
        betas, epochs = BETAS[-1:], 1
    objectives: dict[str, tuple[Objective, dict[str, Any]]] = {
        "trades": (Robust(batch_norm="eval"), {"loss": "trades"})
    }
    for beta in betas:
        objectives[f"era-{beta:g}"] = (Era(beta=beta), {"loss": "era", "beta": beta})
    plans = [
        ModelPlan("core", Pretrained(CORE), None, {"role": "core", "loss": "standard"}),
        ModelPlan("adversarial", Pretrained(ROBUST), None, {"role": "robust", "loss": "at"}),
    ]
    for name, (objective, tags) in objectives.items():
        train = TrainConfig(
            objective,
            threat,
            epochs=epochs,
            batch_size=200,
            lr=5e-3,
            schedule=OneDrop(),
            seed=seed,
            clip_norm=5.0,
            augment=CropFlip(),
            validation=Validation(limit=1000),
        )
        plans.append(ModelPlan(name, Pretrained(ROBUST), train, {"role": "robust", **tags}))
    eps = (threat.eps / 2, threat.eps)
    return RunConfig(
        recipe="cifar10_small",
        data=data,
        models=tuple(plans),
        judgements=(Evaluation(threat.norm, judged_radii(eps), Apgd(steps=40), seed=seed),),
        eps=eps,
        gallery=16,
        page="cifar10_small",
    )
