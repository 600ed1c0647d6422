"""Which robust loss suits ERA best? Five of them, alone and inside ERA, on two data sets.

The small ConvNet, fine-tuned for one epoch from a common, moderately robust network, on GTSRB
(32x32) and on 10,000 CIFAR-10 images, at eps 2/255 and 8/255, two seeds. Judged by APGD-40 at
eps and 2 eps on test images, alone and in front of a common core. The best of them again on a
ResNet-20, on CIFAR-10 at 2/255.

    python experiments/losses.py report         (page and figure, from the kept rows alone)
    python experiments/losses.py run --minutes 7                    (again until "complete")

A killed run goes on where it was: trainings resume, records are kept. A complete one writes the
rows anew.
"""

import argparse
import multiprocessing
import sys
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from losses_report import write_page
from losses_rows import collect
from torch import nn

from recuse.attacks.pgd import Pgd
from recuse.data import Cifar10, Gtsrb, Split, find_data_root
from recuse.data.split import Splits, stratified_parts
from recuse.evaluation import Evaluation, evaluate
from recuse.models import SmallConvNet, build_seeded, normalized
from recuse.models.zoo import load_model
from recuse.protocols import Objective
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
    fit,
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
# With five attack steps a training image costs 16 passes; 13 in AT and GAIRAT alone, which never
# look at clean inputs.
SMALL, RESNET = "small", "resnet20"
DATASETS = ("cifar10", "gtsrb")
RADII = ("2/255", "8/255")
SEEDS = (0, 1)
WORKERS = 2
IMAGES, TEST_IMAGES = 10_000, 700
MEAN, STD = (0.485, 0.456, 0.406), (0.225, 0.225, 0.225)
CORES = {"cifar10": "cifar10_resnet56_std", "gtsrb": "gtsrb_lenet_std"}


@dataclass(frozen=True)
class Cell:
    """One network of the comparison."""

    dataset: str
    eps: str
    seed: int
    robust: str
    inside_era: bool
    network: str = SMALL

    @property
    def name(self) -> str:
        """Name of the record."""
        loss = f"era-{self.robust}" if self.inside_era else self.robust
        prefix = "" if self.network == SMALL else f"{self.network}-"
        return f"{prefix}{self.dataset}-{self.eps.replace('/', '_')}-{loss}-seed{self.seed}"

    @property
    def objective(self) -> Objective:
        """Loss and attack."""
        loss = ROBUST[self.robust]
        return Era(robust=loss, attack=ATTACK) if self.inside_era else Robust(loss, ATTACK)


CELLS = [
    Cell(dataset, eps, seed, robust, inside)
    for seed in SEEDS
    for eps in RADII
    for dataset in DATASETS
    for robust in ROBUST
    for inside in (False, True)
]
REPEATED = [
    Cell("cifar10", "2/255", seed, robust, inside, RESNET)
    for seed in SEEDS
    for robust in ("trades", "mart", "at")
    for inside in (False, True)
]


def balanced(split: Split, count: int, seed: int) -> Split:
    """About ``count`` rows with the classes in proportion."""
    if count >= len(split):
        return split
    share = count / len(split)
    return split.take(stratified_parts(split.labels, (share, 1 - share), seed=seed)[0])


@cache
def load(dataset: str) -> Splits:
    """The data of one half of the comparison."""
    source = Cifar10() if dataset == "cifar10" else Gtsrb(crop=True)
    splits = source.load(find_data_root())
    return Splits(
        balanced(splits.train, IMAGES, 0),
        balanced(splits.validation, 500, 0),
        balanced(splits.test, TEST_IMAGES, 0),
    )


def config(objective: Objective, eps: str, seed: int, network: str) -> TrainConfig:
    """The budget every loss has: one epoch."""
    return TrainConfig(
        objective,
        Threat("linf", eps),
        epochs=1,
        batch_size=50,
        lr=0.01,
        schedule=Cosine(),
        clip_norm=5.0,
        seed=seed,
        precision="fp32" if network == SMALL else "bf16",
        validation=Validation(every=100, limit=200),
        checkpointing=Checkpointing(seconds=20),
    )


def warm_start(cell: Cell, splits: Splits, work: Path) -> nn.Module:
    """The network that all losses of one data set and seed start from.

    The ConvNet on CIFAR-10: a published network of moderate robustness. On GTSRB: trained here,
    first on clean images, then by adversarial training at 4/255, half way between the two radii.
    The ResNet-20: a published standard network after one epoch of adversarial training.
    """
    adversarial = config(Robust(Adversarial(), ATTACK), "4/255", cell.seed, cell.network)
    if cell.network == RESNET:
        phases = {"adversarial": replace(adversarial, threat=Threat("linf", cell.eps))}
        model = load_model("cifar10_resnet20_std")[0]
    elif cell.dataset == "cifar10":
        return load_model("cifar10_cnn_a_mix")[0]
    else:
        standard = replace(adversarial, objective=Standard(), epochs=10, lr=0.02, clip_norm=None)
        phases = {"standard": standard, "adversarial": replace(adversarial, epochs=2)}
        model = normalized(build_seeded(SmallConvNet(classes=43), cell.seed), MEAN, STD)
    start = cell.dataset if cell.network == SMALL else cell.network
    for name, phase in phases.items():
        out = work / "training" / f"{start}-{name}-seed{cell.seed}"
        model = fit(model, splits.train, splits.validation, phase, out, name=name).model
    return model


def train(cell: Cell, splits: Splits, work: Path) -> nn.Module:
    """The cell's network, trained now or read back."""
    start = warm_start(cell, splits, work)
    phase = config(cell.objective, cell.eps, cell.seed, cell.network)
    out = work / "training" / cell.name
    return fit(start, splits.train, splits.validation, phase, out, name=cell.name).model


def judge(
    model: nn.Module, splits: Splits, name: str, eps: str, work: Path, **tags: object
) -> None:
    """Attack a network at eps and 2 eps and keep the record."""
    radius = Threat("linf", eps).eps
    folder = {SMALL: "", RESNET: f"-{RESNET}"}[str(tags["network"])]
    evaluate(
        model,
        splits.test,
        Evaluation("linf", (radius, 2 * radius)),
        name=name,
        records=work / "records" / f"{tags['dataset']}{folder}" / eps.replace("/", "_"),
        tags={"eps": eps, **tags},
    )


def finished(cell: Cell, work: Path) -> bool:
    """Whether the cell's record has all its rows."""
    return (work / "done" / cell.name).is_file()


def run_cell(cell: Cell, splits: Splits, work: Path) -> None:
    """Train and judge one cell."""
    tags = {"dataset": cell.dataset, "network": cell.network, "seed": cell.seed}
    tags |= {"loss": cell.robust}
    model = train(cell, splits, work)
    judge(model, splits, cell.name, cell.eps, work, era=cell.inside_era, role="robust", **tags)
    (work / "done" / cell.name).touch()


def prepare(cell: Cell, work: Path) -> None:
    """What several cells share: the core's record and the network they start from."""
    prefix = "" if cell.network == SMALL else f"{cell.network}-"
    name = f"core-{prefix}{cell.dataset}-{cell.eps.replace('/', '_')}-seed{cell.seed}"
    if not (work / "done" / name).is_file():
        splits, tags = load(cell.dataset), {"dataset": cell.dataset, "network": cell.network}
        core = load_model(CORES[cell.dataset])[0].eval()
        judge(core, splits, "core", cell.eps, work, role="core", **tags)
        warm_start(cell, splits, work)
        (work / "done" / name).touch()


def worker(cells: "multiprocessing.Queue[Cell | None]", work: Path, until: float) -> None:
    """Do cells until there are none or the time is up."""
    torch.set_num_threads(1)
    while (cell := cells.get()) is not None and time.time() < until:
        begin = time.time()
        run_cell(cell, load(cell.dataset), work)
        sys.stderr.write(f"{cell.name}: {time.time() - begin:.0f} s\n")


def run(work: Path, minutes: float) -> bool:
    """Work on the cells side by side; True when every one is finished."""
    until = time.time() + 60 * minutes
    (work / "done").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    context = multiprocessing.get_context("spawn")
    cells = context.Queue()
    for cell in (left := [c for c in (*CELLS, *REPEATED) if not finished(c, work)]):
        prepare(cell, work)
    for item in [*left, *[None] * WORKERS]:
        cells.put(item)
    processes = [context.Process(target=worker, args=(cells, work, until)) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    cells.cancel_join_thread()
    return all(finished(cell, work) for cell in (*CELLS, *REPEATED))


def main() -> None:
    """Run a slice of the comparison, or write what is known."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("action", choices=["run", "report"])
    parser.add_argument("--work", type=Path, default=Path("runs/losses"))
    parser.add_argument("--out", type=Path, default=Path("results/losses"))
    parser.add_argument("--minutes", type=float, default=7.0)
    options = parser.parse_args()
    if options.action == "report":
        write_page(options.out)
        return
    complete = run(options.work, options.minutes)
    if complete:
        collect(options.work / "records", options.out)
    sys.stderr.write("complete\n" if complete else "more to do: run again\n")
    raise SystemExit(0 if complete else 3)


if __name__ == "__main__":
    main()
