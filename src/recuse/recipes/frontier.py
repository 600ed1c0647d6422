"""Every way to be accurate and robust that trains nothing, in one search over networks at hand."""

from dataclasses import replace

from recuse.attacks import Apgd, Margins
from recuse.data import Cifar10, Gtsrb, Source, Subset
from recuse.evaluation import Evaluation, judged_radii
from recuse.recipes.config import ModelPlan, Pretrained, RunConfig
from recuse.threat import Threat

EPS = tuple(Threat("linf", radius).eps for radius in ("1/255", "2/255"))
SIGNS: Source = Subset(Gtsrb(crop=True), test=400)
CIFAR: Source = Subset(Cifar10(train="jpeg", test="lossless"), test=500)
ROBUST, CORE = "cifar10_resnet4b_adv2", "cifar10_resnet56_std"
NETWORKS: dict[str, Source] = {
    ROBUST: CIFAR,
    CORE: CIFAR,
    "gtsrb_lenet_adv": SIGNS,
    "gtsrb_lenet_std": SIGNS,
}


def frontier(seed: int = 0, quick: bool = False) -> RunConfig:
    """Judge robust networks and cores with their worst probabilities, and search all mechanisms.

    The page chooses on one half of the images and reports on the other, for every mechanism alone
    and for all together. Of the robust network of CIFAR-10 the margins are searched within twice
    eps as well, which a robust margin needs.

    Args:
        seed: Of the attacks.
        quick: Traffic signs alone, 40 images, five steps.
    """
    steps = 5 if quick else 40
    evaluation = Evaluation(
        "linf",
        judged_radii(EPS),
        Apgd(steps=steps),
        seed=seed,
        limit=40 if quick else None,
        margins=Margins(steps=steps, radii=EPS),
    )
    doubled = replace(evaluation, margins=Margins(steps=steps))
    plans = [
        ModelPlan(
            name,
            Pretrained(name),
            None,
            {"role": _role(name)},
            source,
            judgements=(doubled,) if name == ROBUST else None,
        )
        for name, source in NETWORKS.items()
        if not quick or source is SIGNS
    ]
    return RunConfig(
        recipe="frontier",
        data=SIGNS,
        models=tuple(plans),
        judgements=(evaluation,),
        eps=EPS,
        gallery=0,
        page="frontier",
    )


def _role(name: str) -> str:
    return "core" if name.endswith("_std") else "robust"
