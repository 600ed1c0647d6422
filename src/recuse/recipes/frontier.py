"""Every way to be accurate and robust that trains nothing, in one search over networks at hand."""

from recuse.attacks import Apgd, Margins
from recuse.data import Cifar10, Gtsrb, Source, Subset
from recuse.evaluation import Evaluation, judged_radii
from recuse.recipes.config import ModelPlan, Pretrained, RunConfig
from recuse.threat import Threat

EPS = tuple(Threat("linf", radius).eps for radius in ("1/255", "2/255"))
SIGNS: Source = Subset(Gtsrb(crop=True), test=400)
CIFAR: Source = Subset(Cifar10(train="jpeg", test="lossless"), test=500)
NETWORKS: dict[str, Source] = {
    "cifar10_resnet4b_adv2": CIFAR,
    "cifar10_resnet56_std": CIFAR,
    "gtsrb_lenet_adv": SIGNS,
    "gtsrb_lenet_std": SIGNS,
}


def frontier(seed: int = 0, quick: bool = False) -> RunConfig:
    """Judge robust networks and cores with their worst probabilities, and search all mechanisms.

    The page chooses on one half of the images and reports on the other, for every mechanism alone
    and for all together: indicator, softmax response, mixtures, cascades.

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
    plans = [
        ModelPlan(name, Pretrained(name), None, {"role": _role(name)}, source)
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
