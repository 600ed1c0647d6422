"""Attack what was certified: adaptive APGD in L2 against the smoothed classifier itself.

Every certified input of a record made by ``certified.py`` is attacked at its certified radius by
40 steps of APGD on the expectation over noise. At each adversarial point the smoothed classifier
is asked again with 1,000 draws; where a certified class is not clearly ahead, with 20,000. A
certificate is broken if the class then has no majority.

    python experiments/attack_certificates.py --work runs/certified --out results/certified
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from certified import FAMILIES, SIGMAS, certifier_of, trained_network
from torch import nn

from recuse.attacks import Apgd
from recuse.certify.surrogate import SmoothedSurrogate
from recuse.certify.votes import DrawSource, Voters
from recuse.cli.console import progress_display
from recuse.data import Cifar10, Split, find_data_root
from recuse.models.prepared import prepare
from recuse.progress import Progress
from recuse.random import SampleNoise
from recuse.records.store import write_atomically
from recuse.threat import Threat

CHEAP, THOROUGH = 1_000, 20_000
CLEARLY = 0.6


@dataclass(frozen=True)
class Outcome:
    """What the attack did to the certificates of one network.

    Attributes:
        network: Family and noise level.
        radius: Certified and attacked radius.
        inputs: Images looked at.
        certified: Of those, certified at the radius.
        broken: Certificates whose class has no majority of votes at the adversarial point.
        lowest_share: Smallest vote share of a certified class at its adversarial point.
        mean_share: Mean of these shares.
        mean_share_clean: Mean share at the unperturbed inputs.
        uncertified_moved: Of the inputs without certificate, how many the attack moved.
    """

    network: str
    radius: float
    inputs: int
    certified: int
    broken: int
    lowest_share: float
    mean_share: float
    mean_share_clean: float
    uncertified_moved: int


def shares(
    model: nn.Module,
    x: torch.Tensor,
    labels: np.ndarray,
    sigma: float,
    noise: SampleNoise,
    *,
    draws: int = CHEAP,
) -> np.ndarray:
    """Share of votes for each label."""
    votes = Voters(model, x, sigma, noise).count_all(
        draws, DrawSource.of(noise.substream("check", draws))
    )
    share: np.ndarray = votes[np.arange(len(x)), labels] / draws
    return share


def attack(
    model: nn.Module, name: str, split: Split, sigma: float, radius: float, progress: Progress
) -> Outcome:
    """Certify, attack, ask again."""
    noise = SampleNoise(1, split.ids, "attack")
    found: Certificate = certifier_of(FAMILIES[0], sigma).decide(
        model, split.images, (radius,), noise=SampleNoise(0, split.ids, "certify")
    )
    labels = found.prediction
    surrogate = SmoothedSurrogate(model, sigma=sigma, k=16)
    points = []
    for rows in torch.arange(len(split)).split(32):
        part, ids = split.take(rows), noise.take(rows.tolist())
        best = Apgd(steps=40).maximise(
            surrogate, part.images, labels[rows], Threat("l2", radius), noise=ids
        )
        points.append(best.x_adv)
        progress(f"attack {name}", int(rows[-1]) + 1, len(split))
    x_adv = torch.cat(points)
    certified = found.certified[:, 0].numpy()
    after = shares(model, x_adv, labels.numpy(), sigma, noise)
    unclear = np.flatnonzero(certified & (after < CLEARLY))
    after[unclear] = shares(
        model,
        x_adv[unclear],
        labels.numpy()[unclear],
        sigma,
        noise.take(unclear.tolist()),
        draws=THOROUGH,
    )
    before = shares(model, split.images, labels.numpy(), sigma, noise)
    return Outcome(
        network=name,
        radius=radius,
        inputs=len(split),
        certified=int(certified.sum()),
        broken=int((after[certified] <= 0.5).sum()),
        lowest_share=float(after[certified].min(initial=1.0)),
        mean_share=float(after[certified].sum() / max(certified.sum(), 1)),
        mean_share_clean=float(before[certified].sum() / max(certified.sum(), 1)),
        uncertified_moved=int((after[~certified] <= 0.5).sum()),
    )


def main() -> None:
    """Attack the certificates of the base networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("results/certified"))
    parser.add_argument("--work", type=Path, default=Path("runs/certified"))
    parser.add_argument("--images", type=int, default=300)
    options = parser.parse_args()
    root = find_data_root()
    data = Cifar10().load(root)
    split = data.test.head(options.images)
    outcomes = []
    with progress_display() as progress:
        for sigma in SIGMAS:
            network = trained_network(FAMILIES[0], sigma, data, options.work, progress)
            name = f"{FAMILIES[0].name} σ={sigma:g}"
            outcomes.append(attack(prepare(network), name, split, sigma, sigma, progress))
    text = json.dumps([asdict(outcome) for outcome in outcomes], indent=1, ensure_ascii=False)
    write_atomically(options.out / "attacked.json", (text + "\n").encode())


if __name__ == "__main__":
    main()
