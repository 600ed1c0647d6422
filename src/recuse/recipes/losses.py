"""Five robust losses, alone and inside ERA: which suits ERA best, which composes best?"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from recuse.attacks import Apgd, Pgd
from recuse.data import Cifar10, Gtsrb, Source, Subset
from recuse.evaluation import Evaluation
from recuse.models import SmallConvNet
from recuse.protocols import Objective
from recuse.recipes.config import Earlier, Fresh, ModelPlan, Pretrained, RunConfig
from recuse.threat import Threat
from recuse.training import (
    Adversarial,
    Checkpointing,
    Cosine,
    Era,
    Gairat,
    Mart,
    Robust,
    Score,
    Standard,
    Trades,
    TrainConfig,
    Validation,
)
from recuse.training.robust import RobustLoss

ATTACK = Pgd(steps=5, step_size_relative=0.4)
ROBUST: dict[str, RobustLoss] = {
    "at": Adversarial(),
    "trades": Trades(),
    "mart": Mart(),
    "gairat": Gairat(burn_in=0.5),
    "score": Score(smoothing=0.1),
}
SMALL, RESNET = "small", "resnet20"
CORES = {"cifar10": "cifar10_resnet56_std", "gtsrb": "gtsrb_lenet_std"}
RADII: tuple[str, ...] = ("2/255", "8/255")
# On CIFAR-10 the ConvNets start from a published one of moderate robustness.
MODERATE = Pretrained("cifar10_cnn_a_mix")
MEAN, STD = (0.485, 0.456, 0.406), (0.225, 0.225, 0.225)


@dataclass(frozen=True)
class _Group:
    """Networks that start from the same weights."""

    dataset: str
    seed: int
    network: str = SMALL

    @property
    def start(self) -> str:
        """What their start is called."""
        place = self.dataset if self.network == SMALL else self.network
        return f"{place}-adversarial-seed{self.seed}"


def losses(seed: int = 0, quick: bool = False) -> RunConfig:
    """Fine-tune by five losses, alone and inside ERA, on two data sets, radii and seeds.

    The ConvNet for one epoch of 10,000 images from a common, moderately robust network, and, at
    2/255 on CIFAR-10, a ResNet-20 by three of them; each is attacked at eps and 2 eps and counted
    in front of a common core.

    Args:
        seed: First of the two seeds of weights, order and noise.
        quick: One loss, one radius and one seed on CIFAR-10; 100 training and 20 test images.
    """
    sizes = (100, 50, 20) if quick else (10_000, 500, 700)
    data: dict[str, Source] = {
        "cifar10": Subset(Cifar10(train="lossless" if quick else "jpeg"), *sizes)
    }
    seeds: tuple[int, ...]
    names, radii, seeds = tuple(ROBUST), RADII, (seed, seed + 1)
    if quick:
        names, radii, seeds = ("trades",), RADII[:1], (seed,)
    else:
        data["gtsrb"] = Subset(Gtsrb(crop=True), *sizes)
    plans = [_core(name, source, radii) for name, source in data.items()]
    for number in seeds:
        for dataset, source in data.items():
            group = _Group(dataset, number)
            plans += starts(group, source)
            plans += [p for eps in radii for p in _compared(group, source, eps, names)]
        if not quick:
            group = _Group("cifar10", number, RESNET)
            plans += starts(group, data["cifar10"])
            plans += _compared(group, data["cifar10"], RADII[0], ("trades", "mart", "at"))
    eps = tuple(Threat("linf", radius).eps for radius in radii)
    return RunConfig("losses", data["cifar10"], tuple(plans), (), eps, gallery=0, page="losses")


def starts(group: _Group, source: Source) -> list[ModelPlan]:
    """The networks that a group starts from, if they are trained here.

    On GTSRB: first on clean images, then by adversarial training at 4/255, half way between the
    two radii. The ResNet-20: a published standard network after one epoch of adversarial training.
    """
    adversarial = _training(Robust(Adversarial(), ATTACK), "4/255", group)
    if group.network == RESNET:
        threat = Threat("linf", RADII[0])
        plan = ModelPlan(
            group.start, Pretrained("cifar10_resnet20_std"), replace(adversarial, threat=threat)
        )
        return [replace(plan, data=source, judgements=())]
    if group.dataset == "cifar10":
        return []
    standard = replace(adversarial, objective=Standard(), epochs=10, lr=0.02, clip_norm=None)
    clean = f"{group.dataset}-standard-seed{group.seed}"
    fresh = Fresh(SmallConvNet(classes=43), MEAN, STD)
    plans = (
        ModelPlan(clean, fresh, standard, seed=group.seed),
        ModelPlan(group.start, Earlier(clean), replace(adversarial, epochs=2)),
    )
    return [replace(plan, data=source, judgements=()) for plan in plans]


def _compared(
    group: _Group, source: Source, eps: str, names: tuple[str, ...]
) -> Iterator[ModelPlan]:
    """Each loss alone and inside ERA, from the same weights."""
    begin = MODERATE if not starts(group, source) else Earlier(group.start)
    prefix = "" if group.network == SMALL else f"{group.network}-"
    for name in names:
        for era in (False, True):
            loss = ROBUST[name]
            objective = Era(robust=loss, attack=ATTACK) if era else Robust(loss, ATTACK)
            title = f"{'era-' if era else ''}{name}-seed{group.seed}"
            tags = {"role": "robust", "dataset": group.dataset, "network": group.network}
            yield ModelPlan(
                f"{prefix}{group.dataset}-{eps.replace('/', '_')}-{title}",
                begin,
                _training(objective, eps, group),
                {**tags, "eps": eps, "seed": group.seed, "loss": name, "era": era},
                source,
                judgements=(_evaluation((eps,)),),
            )


def _core(dataset: str, source: Source, radii: tuple[str, ...]) -> ModelPlan:
    tags = {"role": "core", "dataset": dataset}
    start = Pretrained(CORES[dataset])
    return ModelPlan(f"core-{dataset}", start, None, tags, source, judgements=(_evaluation(radii),))


def _evaluation(radii: tuple[str, ...]) -> Evaluation:
    own = [Threat("linf", radius).eps for radius in radii]
    return Evaluation("linf", tuple(sorted({*own, *(2 * eps for eps in own)})), Apgd(steps=40))


def _training(objective: Objective, eps: str, group: _Group) -> TrainConfig:
    """The budget every loss has: one epoch.

    With five attack steps a training image costs 16 passes; 13 in AT and GAIRAT alone, which never
    look at clean inputs.
    """
    return TrainConfig(
        objective,
        Threat("linf", eps),
        epochs=1,
        batch_size=50,
        lr=0.01,
        schedule=Cosine(),
        clip_norm=5.0,
        seed=group.seed,
        precision="fp32" if group.network == SMALL else "bf16",
        validation=Validation(every=100, limit=200),
        checkpointing=Checkpointing(seconds=20.0),
    )
