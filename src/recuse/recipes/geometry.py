"""How far the classes of a data set are apart, and how smooth networks are near its images."""

from recuse.data import Cifar10, Digits
from recuse.geometry import Lipschitz
from recuse.models import SmallConvNet
from recuse.protocols import Objective
from recuse.recipes.config import (
    Fresh,
    ModelPlan,
    Pretrained,
    RunConfig,
    SeparationPlan,
    SlopePlan,
)
from recuse.threat import Threat
from recuse.training import Robust, Standard, TrainConfig

MODELS = (
    "cifar10_resnet20_std",
    "cifar10_resnet56_std",
    "cifar10_resnet4b_adv2",
    "cifar10_small_std",
    "cifar10_cnn_a_mix",
    "cifar10_wide_kw",
)
EPS = {"linf": ("1/255", "2/255", "8/255"), "l2": ("0.12", "0.25", "0.5")}
METHODS = (Lipschitz(output="logits"), Lipschitz(output="probabilities"))


def geometry(seed: int = 0, quick: bool = False) -> RunConfig:
    """Exact distances between the classes, and slopes of networks near train and test images.

    Distances of all JPEG images of CIFAR-10, and of the lossless ones at hand; slopes near
    lossless images on both sides, since JPEG costs a standard network accuracy on one side only.

    Args:
        seed: Of the random starts.
        quick: Digits, 400 images, two small networks.
    """
    if quick:
        return _quick(seed)
    lossless = Cifar10(train="lossless", test="lossless")
    jpeg = Cifar10(train="jpeg", test="jpeg")
    return RunConfig(
        recipe="geometry",
        data=lossless,
        models=tuple(ModelPlan(name, Pretrained(name)) for name in MODELS),
        judgements=(),
        eps=(),
        gallery=0,
        separations=(
            SeparationPlan("cifar10-jpeg", jpeg, "linf", EPS["linf"]),
            SeparationPlan("cifar10-lossless", lossless, "linf", EPS["linf"]),
            SeparationPlan("cifar10-lossless", lossless, "l2", EPS["l2"]),
        ),
        slopes=SlopePlan(Threat("linf", "2/255"), METHODS, images=250, seed=seed),
        page="geometry",
    )


def _quick(seed: int) -> RunConfig:
    data, threat = Digits(), Threat("linf", 0.1)
    start = Fresh(SmallConvNet(channels=1, size=8, classes=10))
    objectives: dict[str, Objective] = {"standard": Standard(), "trades": Robust()}
    models = tuple(
        ModelPlan(
            name,
            start,
            TrainConfig(objective, threat, epochs=4, batch_size=64, lr=0.05, seed=seed),
            {"loss": name},
            seed=seed,
        )
        for name, objective in objectives.items()
    )
    return RunConfig(
        recipe="geometry",
        data=data,
        models=models,
        judgements=(),
        eps=(),
        gallery=0,
        separations=(
            SeparationPlan("digits", data, "linf", ("0.05", "0.1"), limit=400),
            SeparationPlan("digits", data, "l2", ("0.25", "0.5"), limit=400),
        ),
        slopes=SlopePlan(threat, METHODS, images=40, seed=seed),
        page="geometry",
    )
