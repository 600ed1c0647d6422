"""Sure where right, unsure where wrong: does such a training help systems of probabilities?"""

from dataclasses import replace

from recuse.attacks import Apgd, Margins, MaskingCheck
from recuse.data import Subset
from recuse.evaluation import Evaluation, judged_radii
from recuse.protocols import Objective
from recuse.recipes.config import ModelPlan, Pretrained, RunConfig
from recuse.recipes.gtsrb import AUGMENT, SIGNS
from recuse.recipes.real_images import AT, THREE_STEPS, by_two_losses, training
from recuse.threat import Threat
from recuse.training import Robust, Unsure

BETA = 0.3
RADIUS = "2/255"
# Networks of the study of signs, judged again with their worst probabilities.
KNOWN = {"core": "standard", "adversarial": "at", "trades-2": "trades", "era-0.1-2": "era"}


def unsure(seed: int = 0, quick: bool = False) -> RunConfig:
    """Fine-tune a robust network by the objective ``unsure``, beside AT, TRADES and ERA.

    All start from one adversarially trained network, at the radius they are judged at, and cost
    the same passes but for AT, which looks at no clean image. The page searches every mechanism
    over each of them and one core, whose probabilities are not searched: a mixture takes its bare
    answer.

    Args:
        seed: Of order, noise and attacks.
        quick: A few images, one epoch.
    """
    data = Subset(SIGNS.source, 430, 43, 43) if quick else SIGNS
    eps, steps = Threat("linf", RADIUS).eps, 3 if quick else 40
    evaluation = Evaluation(
        "linf",
        judged_radii((eps,)),
        Apgd(steps=steps),
        seed=seed,
        limit=12 if quick else 300,
        recheck=None if quick else MaskingCheck(),
        margins=Margins(steps=steps, radii=(eps,)),
    )
    plans = [
        ModelPlan(
            name,
            Pretrained(f"recuse:gtsrb-{name}"),
            tags=_tags(loss),
            judgements=by_two_losses(replace(evaluation, margins=None)) if name == "core" else None,
        )
        for name, loss in KNOWN.items()
    ]
    objectives: dict[str, Objective] = {"at-2": Robust(AT, THREE_STEPS, "eval")}
    objectives[f"unsure-{BETA:g}-2"] = Unsure(BETA, attack=THREE_STEPS)
    for name, objective in objectives.items():
        tuned = training(
            objective, Threat("linf", RADIUS), 1 if quick else 5, AUGMENT, seed=seed, lr=0.01
        )
        start = Pretrained("recuse:gtsrb-adversarial")
        plans.append(ModelPlan(name, start, tuned, _tags(name.partition("-")[0]), half=True))
    return RunConfig(
        recipe="unsure",
        data=data,
        models=tuple(plans),
        judgements=by_two_losses(evaluation),
        eps=(eps,),
        gallery=0,
        page="unsure",
    )


def _tags(loss: str) -> dict[str, str]:
    role = "core" if loss == "standard" else "robust"
    return {"role": role, "loss": loss, "trained_at": RADIUS}


__all__ = ["unsure"]
