"""Certified networks: training under noise, CRA at five weights, attacks on the certificates."""

from dataclasses import dataclass

from recuse.attacks import Apgd, Pgd
from recuse.certify import Crown, GroupSequential, Ibp
from recuse.data import Cifar10, Digits, Mnist, Source, Subset
from recuse.data.augment import CropFlip, NoAugment
from recuse.evaluation import Evaluation, judged_radii
from recuse.evaluation.attack_certificates import CertificateAttack
from recuse.evaluation.certify_dataset import Certification
from recuse.models import SmallConvNet
from recuse.models.prepared import Precision
from recuse.protocols import Objective
from recuse.recipes.config import Earlier, Fresh, Judgement, ModelPlan, Pretrained, RunConfig
from recuse.threat import Threat
from recuse.training import Cra, Gaussian, IbpTraining, Standard, TrainConfig, Validation

SIGMAS = (0.12, 0.25)
BETAS = (1.0, 0.3, 0.1, 0.03, 0.01)
# Certified radii, in units of the noise level; what deployed stages need comes on top.
STEPS = (0.5, 1.0, 1.5, 2.0)
CORE = "cifar10_resnet56_std"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
DRAWS = 16
ATTACK = Apgd(steps=40)
CIFAR = Cifar10(train="jpeg", test="lossless")
PROVABLE: tuple[tuple[str, Source, tuple[float, ...]], ...] = (
    ("cifar10_small_kw_8px", CIFAR, (2 / 255, 4 / 255, 8 / 255)),
    ("cifar10_wide_kw", CIFAR, (1 / 255, 2 / 255)),
    ("mnist_small_kw03", Mnist(), (0.1, 0.2, 0.3)),
)


@dataclass(frozen=True)
class Phase:
    """How long a network is trained, and on what."""

    data: Source
    epochs: int
    batch_size: int
    lr: float
    augmented: bool = False


@dataclass(frozen=True)
class Kind:
    """A network and its two phases: under noise, then fine-tuned with many draws an image.

    Attributes:
        name: In pages.
        start: Where its weights come from.
        base: Under noise.
        tuned: From there.
        precision: Of training.
        draws: Votes of a certificate, at most.
    """

    name: str
    start: Fresh | Pretrained
    base: Phase
    tuned: Phase
    precision: Precision
    draws: int


KINDS = (
    Kind(
        "small",
        Fresh(SmallConvNet(), MEAN, STD),
        Phase(CIFAR, 8, 128, 0.02, augmented=True),
        Phase(Subset(CIFAR, train=5_000), 3, 50, 0.01),
        "fp32",
        10_000,
    ),
    Kind(
        "resnet20",
        Pretrained("cifar10_resnet20_std"),
        Phase(Subset(CIFAR, train=10_000), 3, 128, 0.01),
        Phase(Subset(CIFAR, train=1_000), 2, 50, 0.005),
        "bf16",
        4_000,
    ),
)


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        kinds: Networks.
        sigmas: Noise levels.
        betas: Weights of CRA.
        images: Certified.
        attacked: Of those, attacked.
        attack: What their certificates are attacked with.
    """

    kinds: tuple[Kind, ...] = KINDS
    sigmas: tuple[float, ...] = SIGMAS
    betas: tuple[float, ...] = BETAS
    images: int = 600
    attacked: int = 100
    attack: Apgd = ATTACK


def certified(seed: int = 0, quick: bool = False) -> RunConfig:
    """Train, fine-tune, certify and attack; a standard network answers where they abstain.

    Trained on JPEG images, judged on the lossless test images of CIFAR-10. Networks that were
    trained to be provable by bounds stand beside them.

    Args:
        seed: Of weights, order, noise, certificates and attacks.
        quick: Digits, one network, one noise level, one beta.
    """
    if quick:
        return _quick(seed)
    size = Size()
    core = _core(Pretrained(CORE), None, size, seed)
    provable = [
        ModelPlan(
            name,
            Pretrained(name),
            tags={"role": "provable"},
            data=source,
            judgements=_bounds(radii, 100, seed),
        )
        for name, source, radii in PROVABLE
    ]
    return _config(CIFAR, [core, *_smoothed(size, seed), *provable], size)


def _quick(seed: int) -> RunConfig:
    data = Digits()
    network = Fresh(SmallConvNet(channels=1, size=8, classes=10))
    phase = Phase(data, 4, 64, 0.05)
    kind = Kind("digits", network, phase, Phase(data, 1, 64, 0.02), "fp32", 1_000)
    size = Size((kind,), SIGMAS[1:], BETAS[:1], 60, 30, Apgd(steps=10))
    threat = Threat("linf", 0.05)
    standard = TrainConfig(Standard(), threat, epochs=4, batch_size=64, lr=0.05, seed=seed)
    bounds = TrainConfig(IbpTraining(), threat, epochs=8, batch_size=64, lr=0.05, seed=seed)
    provable = ModelPlan(
        "provable",
        network,
        bounds,
        {"role": "provable"},
        seed=seed,
        judgements=_bounds((0.01, 0.05), 60, seed),
    )
    core = _core(network, standard, size, seed)
    return _config(data, [core, *_smoothed(size, seed), provable], size)


def _config(data: Source, plans: list[ModelPlan], size: Size) -> RunConfig:
    return RunConfig(
        recipe="certified",
        data=data,
        models=tuple(plans),
        judgements=(),
        eps=size.sigmas,
        gallery=0,
        page="certified",
    )


def _core(start: Fresh | Pretrained, train: TrainConfig | None, size: Size, seed: int) -> ModelPlan:
    """The standard network, attacked where the others are certified."""
    attack = Evaluation("l2", judged_radii(size.sigmas), seed=seed, limit=size.images)
    return ModelPlan("core", start, train, {"role": "core"}, seed=seed, judgements=(attack,))


def _smoothed(size: Size, seed: int) -> list[ModelPlan]:
    """Every network under noise, and what is fine-tuned from it."""
    plans = []
    for kind in size.kinds:
        for sigma in size.sigmas:
            judged = _judged(kind, sigma, size, seed)
            base = f"{kind.name}-{sigma:g}-base"
            plain = _train(kind, kind.base, Gaussian(sigma, k=1), sigma, seed)
            tags = {"role": "robust", "base": kind.name, "sigma": sigma}
            first = {**tags, "loss": "gaussian", "phase": "base"}
            data = kind.base.data
            plans.append(ModelPlan(base, kind.start, plain, first, data, seed, judged))
            for phase, objective in _objectives(sigma, size.betas).items():
                train = _train(kind, kind.tuned, objective, sigma, seed)
                loss, _, beta = phase.partition(" ")
                own = {**tags, "loss": "cra" if beta else "gaussian", "phase": phase}
                own |= {"beta": float(beta)} if beta else {}
                name = f"{kind.name}-{sigma:g}-{loss}" + (f"-{beta}" if beta else "")
                data = kind.tuned.data
                plans.append(ModelPlan(name, Earlier(base), train, own, data, seed, judged))
    return plans


def _objectives(sigma: float, betas: tuple[float, ...]) -> dict[str, Objective]:
    """What a network trained under noise is fine-tuned by."""
    tuned: dict[str, Objective] = {"gaussian": Gaussian(sigma, k=DRAWS, batch_norm="eval")}
    return tuned | {f"cra {beta:g}": Cra(beta, sigma, k=DRAWS) for beta in betas}


def _train(kind: Kind, phase: Phase, objective: Objective, sigma: float, seed: int) -> TrainConfig:
    """Validation is a glance at the end, since nothing is chosen by it."""
    return TrainConfig(
        objective=objective,
        threat=Threat("l2", sigma),
        epochs=phase.epochs,
        batch_size=phase.batch_size,
        lr=phase.lr,
        precision=kind.precision,
        augment=CropFlip() if phase.augmented else NoAugment(),
        validation=Validation(every=1000, limit=64),
        seed=seed,
    )


def _judged(kind: Kind, sigma: float, size: Size, seed: int) -> tuple[Judgement, ...]:
    """Certificates, those that a deployed stage needs too, and the attack on them."""
    radii = tuple(round(step * sigma, 6) for step in STEPS)
    certifier = GroupSequential(sigma, n_max=kind.draws)
    proof = Certification(certifier, radii, deployed=(sigma,), seed=seed, limit=size.images)
    attack = CertificateAttack(sigma, size.attack, seed=seed + 1, limit=size.attacked)
    return proof, attack


def _bounds(radii: tuple[float, ...], images: int, seed: int) -> tuple[Judgement, ...]:
    """Interval bounds, linear bounds, and an attack that could contradict them."""
    return (
        Certification(Ibp(), radii, limit=images),
        Certification(Crown(), radii, limit=images),
        Evaluation("linf", radii, Pgd(steps=40), seed=seed, limit=images),
    )
