"""What the studies of real images share: one adversarial training, fine-tunings of equal cost."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from recuse.attacks import Apgd, Dlr, Pgd
from recuse.data import Source
from recuse.data.augment import Augment
from recuse.evaluation import Evaluation, judged_radii
from recuse.protocols import Objective
from recuse.recipes.config import Earlier, Fresh, ModelPlan, NewHead, RunConfig
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
AT = Adversarial(smoothing=0.1)
# One step from a random start, a little longer than the radius; three for what is compared.
ONE_STEP, THREE_STEPS = Pgd(steps=1, step_size_relative=1.25), Pgd(steps=3, step_size_relative=0.5)


def robust_networks(
    start: Fresh | NewHead,
    radii: Sequence[str],
    betas: Sequence[float],
    epochs: Sequence[int],
    augment: Augment,
    *,
    seed: int,
) -> tuple[ModelPlan, ...]:
    """An adversarially trained network, and AT, TRADES and ERA from it, at each radius.

    AT goes on as the start was trained, in as many steps as the others: the baseline where
    fine-tuning itself does harm. ERA holds TRADES, and once AT. At the larger of the attacker's
    radii one more ERA has its penalty see twice the radius, the ball within which the indicator's
    answers must not change to be sound; and one penalises wrong answers alone, by the hard
    indicator, since more than half of the soft miss may be that of right answers.

    Args:
        start: Fresh weights, or those of a network for other images.
        radii: Linf radii of training; the first is that of the adversarial training.
        betas: Of ERA; the first is that of ERA with AT, too.
        epochs: Of the adversarial training, and of each fine-tuning.
        augment: Of training images.
        seed: Of weights, order and noise.
    """
    plans = [adversarially_trained(start, radii[0], epochs[0], augment, seed=seed)]
    for radius in radii:
        objectives = fine_tunings(betas, THREE_STEPS, far=radius == EPS[-1])
        plans += fine_tuned("adversarial", objectives, radius, epochs[1], augment, seed=seed)
    return tuple(plans)


def adversarially_trained(
    start: Fresh | NewHead | Earlier,
    radius: str,
    epochs: int,
    augment: Augment,
    *,
    seed: int,
    prefix: str = "",
) -> ModelPlan:
    """AT in one step an image, from scratch or on from a network: what fine-tuning begins with."""
    train = training(Robust(AT, ONE_STEP), Threat("linf", radius), epochs, augment, seed=seed)
    tags = {"role": "robust", "loss": "at", "trained_at": radius}
    return ModelPlan(f"{prefix}adversarial", start, train, tags, seed=seed, half=True)


def fine_tuned(
    start: str,
    objectives: Mapping[str, Objective],
    radius: str,
    epochs: int,
    augment: Augment,
    *,
    seed: int,
    prefix: str = "",
) -> list[ModelPlan]:
    """A network of the run trained on by each objective, for as many epochs."""
    return [
        ModelPlan(
            f"{prefix}{name}-{radius.partition('/')[0]}",
            Earlier(start),
            training(objective, Threat("linf", radius), epochs, augment, seed=seed, lr=0.01),
            {"role": "robust", "trained_at": radius, **tags_of(objective)},
            half=True,
        )
        for name, objective in objectives.items()
    ]


def fine_tunings(betas: Sequence[float], attack: Pgd, *, far: bool) -> dict[str, Objective]:
    """What is compared, by name, what says most first."""
    objectives: dict[str, Objective] = {
        "trades": Robust(attack=attack, batch_norm="eval"),
        "at": Robust(AT, attack, batch_norm="eval"),
        f"era-{betas[0]:g}": Era(betas[0], attack=attack),
        f"era-at-{betas[0]:g}": Era(betas[0], AT, attack),
    }
    objectives |= {f"era-{beta:g}": Era(beta, attack=attack) for beta in betas[1:]}
    if far:
        reaching = LiteralEra(betas[0], robust_attack=attack, attack=attack, reach=2.0)
        objectives[f"era-{betas[0]:g}-far"] = reaching
        least = min(betas)
        objectives[f"era-{least:g}-hard"] = Era(least, attack=attack, hard=True)
    return objectives


def tags_of(objective: Objective) -> dict[str, Any]:
    """What figures group a fine-tuned network by."""
    if isinstance(objective, Era | LiteralEra):
        inside = {"robust_loss": "at"} if objective.robust == AT else {}
        hard = {"penalty": "hard"} if objective.hard else {}
        return {"loss": "era", "beta": objective.beta, **inside, **hard}
    return {"loss": "at" if getattr(objective, "loss", None) == AT else "trades"}


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


def by_two_losses(first: Evaluation) -> tuple[Evaluation, Evaluation]:
    """A judgement by APGD, and the same by another loss in the same steps, without margins.

    Of a thousand signs DLR breaks six more at 2/255 than cross entropy alone.
    """
    assert isinstance(first.attack, Apgd)
    other = replace(first.attack, loss=Dlr())
    return first, replace(first, attack=other, recheck=None, margins=None)


def judged(name: str, data: Source, models: tuple[ModelPlan, ...], *, seed: int) -> RunConfig:
    """The run: every network attacked at 1/255, 2/255 and twice that; composed, and a page."""
    eps = tuple(Threat("linf", radius).eps for radius in EPS)
    return RunConfig(
        recipe=name,
        data=data,
        models=models,
        judgements=by_two_losses(Evaluation("linf", judged_radii(eps), Apgd(steps=40), seed=seed)),
        eps=eps,
        gallery=16,
        page=name,
    )


__all__ = [
    "AT",
    "THREE_STEPS",
    "adversarially_trained",
    "by_two_losses",
    "fine_tuned",
    "fine_tunings",
    "judged",
    "robust_networks",
    "training",
]
