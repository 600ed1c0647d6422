"""What the studies of real images share: one adversarial training, fine-tunings of equal cost."""

from collections.abc import Sequence
from typing import Any

from recuse.attacks import Apgd, Pgd
from recuse.data import Source
from recuse.data.augment import Augment
from recuse.evaluation import Evaluation, judged_radii
from recuse.protocols import Objective
from recuse.recipes.config import Earlier, Fresh, ModelPlan, RunConfig
from recuse.threat import Threat
from recuse.training import (
    Adversarial,
    Cosine,
    Ema,
    Era,
    LiteralEra,
    Robust,
    TrainConfig,
    Validation,
)

EPS = ("1/255", "2/255")
# One step from a random start, a little longer than the radius; three for what is compared.
ONE_STEP, THREE_STEPS = Pgd(steps=1, step_size_relative=1.25), Pgd(steps=3, step_size_relative=0.5)


def robust_networks(
    start: Fresh,
    radii: Sequence[str],
    betas: Sequence[float],
    epochs: Sequence[int],
    augment: Augment,
    *,
    seed: int,
) -> tuple[ModelPlan, ...]:
    """An adversarially trained network, and TRADES and ERA from it, at each radius.

    At the larger of the attacker's radii one more ERA has its penalty see twice the radius, the
    ball within which the indicator's answers must not change to be sound.

    Args:
        start: Fresh weights.
        radii: Linf radii of training; the first is that of the adversarial training.
        betas: Of ERA.
        epochs: Of the adversarial training, and of each fine-tuning.
        augment: Of training images.
        seed: Of weights, order and noise.
    """
    adversarial = Robust(Adversarial(smoothing=0.1), ONE_STEP)
    first = training(adversarial, Threat("linf", radii[0]), epochs[0], augment, seed=seed)
    tags: dict[str, Any] = {"role": "robust", "loss": "at", "trained_at": radii[0]}
    plans = [ModelPlan("adversarial", start, first, tags, seed=seed, half=True)]
    objectives: dict[str, Objective] = {"trades": Robust(attack=THREE_STEPS, batch_norm="eval")}
    objectives |= {f"era-{beta:g}": Era(beta=beta, attack=THREE_STEPS) for beta in betas}
    far = LiteralEra(betas[0], robust_attack=THREE_STEPS, attack=THREE_STEPS, reach=2.0)
    for radius in radii:
        more = {f"era-{betas[0]:g}-far": far} if radius == EPS[-1] else {}
        for name, objective in (objectives | more).items():
            threat = Threat("linf", radius)
            train = training(objective, threat, epochs[1], augment, seed=seed, lr=0.01)
            tags = {"role": "robust", "loss": name.partition("-")[0], "trained_at": radius}
            if isinstance(objective, Era | LiteralEra):
                tags["beta"] = objective.beta
            plans.append(
                ModelPlan(
                    f"{name}-{radius.partition('/')[0]}",
                    Earlier("adversarial"),
                    train,
                    tags,
                    half=True,
                )
            )
    return tuple(plans)


def training(
    objective: Objective,
    threat: Threat,
    epochs: int,
    augment: Augment,
    *,
    seed: int,
    lr: float = 0.1,
) -> TrainConfig:
    """One training: one cycle of the learning rate, averaged weights, stopped if it collapses."""
    return TrainConfig(
        objective,
        threat,
        epochs=epochs,
        batch_size=100,
        lr=lr,
        weight_decay=5e-4,
        schedule=Cosine(warmup=0.2),
        seed=seed,
        precision="bf16",
        clip_norm=5.0,
        augment=augment,
        average=Ema(0.995),
        validation=Validation(every=min(epochs, 5), collapse=0.5),
    )


def judged(name: str, data: Source, models: tuple[ModelPlan, ...], *, seed: int) -> RunConfig:
    """The run: every network attacked at 1/255, 2/255 and twice that; composed, and a page."""
    eps = tuple(Threat("linf", radius).eps for radius in EPS)
    return RunConfig(
        recipe=name,
        data=data,
        models=models,
        judgements=(Evaluation("linf", judged_radii(eps), Apgd(steps=40), seed=seed),),
        eps=eps,
        gallery=16,
        page=name,
    )


__all__ = ["judged", "robust_networks", "training"]
