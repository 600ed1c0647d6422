"""A small certified study on CIFAR-10: Gaussian training, and CRA fine-tuning at five weights.

Two networks (the small ConvNet from scratch, a pretrained ResNet-20) are trained under Gaussian
noise of two levels, fine-tuned by the Gaussian loss and by CRA, and certified on lossless test
images. Every step resumes: a killed run goes on where it was, a finished one draws the figures
again in seconds.

    python experiments/certified.py --out results/certified --work runs/certified
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from certified_figures import draw
from torch import nn

from recuse.certify import GroupSequential
from recuse.cli.console import progress_display
from recuse.data import Cifar10, Split, Splits, find_data_root
from recuse.data.augment import CropFlip, NoAugment
from recuse.evaluation import Evaluation, evaluate
from recuse.evaluation.certify_dataset import Certification, certify_dataset
from recuse.models import SmallConvNet, build_seeded, normalized
from recuse.models.prepared import Precision, prepare
from recuse.models.zoo import load_model
from recuse.progress import Progress
from recuse.protocols import Objective
from recuse.threat import Threat
from recuse.training import Checkpointing, Cra, Gaussian, TrainConfig, Validation, fit

SIGMAS = (0.12, 0.25)
BETAS = (1.0, 0.3, 0.1, 0.03, 0.01)
STEPS = (0.5, 1.0, 1.5, 2.0)
IMAGES = 600
BASE = "base"
CORE = "cifar10_resnet56_std"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


@dataclass(frozen=True)
class Phase:
    """How long a network is trained, and on how many images."""

    images: int
    epochs: int
    batch_size: int
    lr: float


@dataclass(frozen=True)
class Family:
    """A network and its two phases: under noise, then fine-tuned with 16 draws an image."""

    name: str
    start: str
    base: Phase
    tuned: Phase
    precision: Precision
    draws: int

    def fresh(self) -> nn.Module:
        """Initial weights."""
        if self.start:
            return load_model(self.start)[0]
        return normalized(build_seeded(SmallConvNet(), seed=0), MEAN, STD)


FAMILIES = (
    Family("small", "", Phase(45_000, 8, 128, 0.02), Phase(5_000, 3, 50, 0.01), "fp32", 10_000),
    Family(
        "resnet20",
        "cifar10_resnet20_std",
        Phase(10_000, 3, 128, 0.01),
        Phase(1_000, 2, 50, 0.005),
        "bf16",
        4_000,
    ),
)


def objectives(sigma: float) -> dict[str, Objective]:
    """What a network trained under noise is fine-tuned by."""
    tuned: dict[str, Objective] = {"gaussian": Gaussian(sigma, k=16, batch_norm="eval")}
    return tuned | {f"cra {beta:g}": Cra(beta, sigma, k=16) for beta in BETAS}


def config(family: Family, phase: Phase, objective: Objective, sigma: float) -> TrainConfig:
    """A training run; validation is a glance at its end, since nothing is chosen by it."""
    return TrainConfig(
        objective=objective,
        threat=Threat("l2", sigma),
        epochs=phase.epochs,
        batch_size=phase.batch_size,
        lr=phase.lr,
        precision=family.precision,
        augment=CropFlip() if phase.images > 10_000 else NoAugment(),
        validation=Validation(every=1000, limit=64),
        checkpointing=Checkpointing(seconds=120),
    )


def fitted(
    network: nn.Module,
    family: Family,
    sigma: float,
    name: str,
    objective: Objective,
    data: Splits,
    work: Path,
    progress: Progress,
) -> None:
    """Train a network in place, or load what an earlier run of this step left."""
    phase = family.base if name == BASE else family.tuned
    fit(
        network,
        data.train.head(phase.images),
        data.validation,
        config(family, phase, objective, sigma),
        work / f"{family.name}-{sigma:g}" / name.replace(" ", "-"),
        name=f"{family.name} {sigma:g} {name}",
        progress=progress,
    )


def trained_network(
    family: Family, sigma: float, data: Splits, work: Path, progress: Progress
) -> nn.Module:
    """The network of one family trained under noise, before any fine-tuning."""
    network = family.fresh()
    fitted(network, family, sigma, BASE, Gaussian(sigma, k=1), data, work, progress)
    return network.eval()


def trained(
    family: Family, sigma: float, data: Splits, work: Path, progress: Progress
) -> Iterator[tuple[str, nn.Module]]:
    """The networks of one family and noise level, one after the other."""
    network = trained_network(family, sigma, data, work, progress)
    weights = {k: v.clone() for k, v in network.state_dict().items()}
    yield BASE, network
    for name, objective in objectives(sigma).items():
        network.load_state_dict(weights)
        fitted(network, family, sigma, name, objective, data, work, progress)
        yield name, network.eval()


def certifier_of(family: Family, sigma: float) -> GroupSequential:
    """The certifier of every record; a larger cap would certify a little more, for longer."""
    return GroupSequential(sigma, n_max=family.draws)


def certify(
    network: nn.Module,
    family: Family,
    name: str,
    sigma: float,
    test: Split,
    out: Path,
    progress: Progress,
) -> None:
    """Certify one network in the precision it was trained in, and keep the record."""
    radii = tuple(round(step * sigma, 6) for step in STEPS)
    loss, _, beta = name.partition(" ")
    tags = {
        "role": "robust",
        "loss": "cra" if loss == "cra" else "gaussaug",
        "base": family.name,
        "phase": name,
    }
    certify_dataset(
        prepare(network, precision=family.precision).eval(),
        test,
        Certification(certifier_of(family, sigma), radii, deployed=radii[:2], limit=IMAGES),
        name=f"{family.name} σ={sigma:g} {name}",
        records=out / "records",
        tags={**tags, "precision": family.precision} | ({"beta": beta} if beta else {}),
        progress=progress,
    )


def judge_core(test: Split, out: Path, progress: Progress) -> None:
    """Record the standard network that answers where a certified one abstains."""
    core = load_model(CORE)[0].eval()
    evaluate(
        core,
        test,
        Evaluation("l2", tuple(sorted({s * k for s in SIGMAS for k in (1, 2)})), limit=IMAGES),
        name=CORE,
        records=out / "records",
        tags={"role": "core"},
        progress=progress,
    )


def main() -> None:
    """Train, certify, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("results/certified"))
    parser.add_argument("--work", type=Path, default=Path("runs/certified"))
    parser.add_argument("--only", choices=[f.name for f in FAMILIES], default=None)
    options = parser.parse_args()
    data = Cifar10().load(find_data_root())
    with progress_display() as progress:
        judge_core(data.test, options.out, progress)
        for family in FAMILIES:
            if options.only not in (None, family.name):
                continue
            for sigma in SIGMAS:
                for name, network in trained(family, sigma, data, options.work, progress):
                    certify(network, family, name, sigma, data.test, options.out, progress)
                    draw(options.out)


if __name__ == "__main__":
    main()
