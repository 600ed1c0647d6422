"""Every way to be accurate and robust that trains nothing, in one search over networks at hand."""

from dataclasses import replace

from recuse.attacks import Apgd, Margins
from recuse.data import Cifar10, Gtsrb, Source, Subset
from recuse.evaluation import Evaluation, judged_radii
from recuse.recipes.config import ModelPlan, Pretrained, RunConfig
from recuse.recipes.gtsrb import SIGNS
from recuse.threat import Threat

EPS = tuple(Threat("linf", radius).eps for radius in ("1/255", "2/255"))
CIFAR: Source = Subset(Cifar10(train="jpeg", test="lossless"), test=500)
SIGNS_JUDGED = 200
FEW_SIGNS: Source = Subset(Gtsrb(crop=True), test=400)
ROBUST = (
    "recuse:cifar10-longer-adversarial",
    "recuse:cifar10-adversarial",
    "cifar10_resnet4b_adv2",
)
CORE = "cifar10_resnet56_std"
SIGNS_ROBUST = ("recuse:gtsrb-adversarial", "recuse:gtsrb-trades-2")
SIGNS_CORE = "recuse:gtsrb-core"
# Run again with better networks when there are any: one line a network, a core for each data set.
NETWORKS: dict[str, Source] = {
    **dict.fromkeys(ROBUST, CIFAR),
    CORE: CIFAR,
    SIGNS_CORE: SIGNS,
    **dict.fromkeys(SIGNS_ROBUST, SIGNS),
}
QUICK: dict[str, Source] = {"gtsrb_lenet_adv": FEW_SIGNS, "gtsrb_lenet_std": FEW_SIGNS}


def frontier(seed: int = 0, quick: bool = False) -> RunConfig:
    """Judge robust networks and cores with their worst probabilities, and search all mechanisms.

    The page chooses on one half of the images and reports on the other, for every mechanism alone
    and for all together. Of the robust networks of CIFAR-10 the margins are searched within twice
    eps as well, which a robust margin needs. Signs are searched at each radius by itself, at 2/255
    as in the study ``unsure``, and not before their core: a mixture takes its bare answer.

    Args:
        seed: Of the attacks.
        quick: Traffic signs alone, small networks, 40 images, five steps.
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
    few = replace(evaluation, limit=SIGNS_JUDGED)
    apart = tuple(replace(few, margins=Margins(steps=steps, radii=(eps,))) for eps in EPS)
    own = {
        **dict.fromkeys(ROBUST, (replace(evaluation, margins=Margins(steps=steps)),)),
        **dict.fromkeys(SIGNS_ROBUST, apart),
        SIGNS_CORE: (replace(few, margins=None),),
    }
    plans = [
        ModelPlan(
            ref.removeprefix("recuse:"),
            Pretrained(ref),
            None,
            {"role": _role(ref)},
            source,
            judgements=own.get(ref),
        )
        for ref, source in (QUICK if quick else NETWORKS).items()
    ]
    return RunConfig(
        recipe="frontier",
        data=plans[0].data or CIFAR,
        models=tuple(plans),
        judgements=(evaluation,),
        eps=EPS,
        gallery=0,
        page="frontier",
    )


def _role(name: str) -> str:
    return "core" if name.endswith(("_std", "-core")) else "robust"
