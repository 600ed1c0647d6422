"""Selection networks of a run: trained to accept what a classifier of the run is robustly right on.

The published one (ACE) learns what a classifier trained by interval bounds is certified right
about. Beside it one of the same kind for an attacked classifier, whose targets an attack decides.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from recuse.attacks import Pgd
from recuse.certify.ibp import Ibp
from recuse.data.split import Split, Splits
from recuse.models import build_seeded, load_checkpoint, save_checkpoint
from recuse.models.architectures import Architecture
from recuse.models.cards import Card, card_for
from recuse.models.normalize import normalized
from recuse.progress import Progress
from recuse.random import SampleNoise
from recuse.recipes.run_location import RunLocation
from recuse.records.layout import TRAINING
from recuse.selectors import acceptance_split
from recuse.threat import Threat
from recuse.training import TrainConfig, fit

Right = Callable[[nn.Module, Split, Threat], torch.Tensor]
BATCH = 500


def selection_network(
    name: str,
    of: str,
    right: Right,
    features: str,
    train: TrainConfig,
    splits: Splits,
    place: RunLocation,
    progress: Progress,
) -> nn.Module:
    """A selection network of a run: from its checkpoint if it is finished, else trained now.

    It starts from certified features with a head of its own; from fresh weights it learns next to
    nothing in so few epochs.

    Args:
        name: Of the selection network.
        of: Name of the classifier whose right answers it learns.
        right: Says where the classifier is right over the whole ball.
        features: Name of the network whose features it starts from.
        train: How it is trained, and the ball.
        splits: Training and validation images.
        place: Run folder; both networks are finished.
        progress: Told as work proceeds.
    """
    path = place.checkpoint(name)
    if not path.is_file():
        judged = load_checkpoint(place.checkpoint(of))[0].eval()
        data, validation = (
            acceptance_split(part, right(judged, part, train.threat))
            for part in (splits.train, splits.validation)
        )
        network, card = _beginning(name, place.checkpoint(features), data, train)
        out = place.out / TRAINING / name
        fit(network, data, validation, train, out, name=name, progress=progress)
        save_checkpoint(path, network, card)
    return load_checkpoint(path)[0]


def _beginning(
    name: str, features: Path, data: Split, train: TrainConfig
) -> tuple[nn.Module, Card]:
    known, card = load_checkpoint(features)
    config: Architecture = replace(card.architecture, classes=2)  # type: ignore[type-var]
    mean, std = card.preprocessing.mean, card.preprocessing.std
    network = normalized(build_seeded(config, 0), mean, std)
    weights = known.state_dict()
    own = network.state_dict()
    network.load_state_dict(
        {k: weights[k] if weights[k].shape == v.shape else v for k, v in own.items()}
    )
    return network, card_for(
        name,
        config,
        mean=mean,
        std=std,
        norm=train.threat.norm,
        eps=train.threat.radius,
        training=f"interval bounds, {train.epochs} epochs",
        label_names=data.label_names,
    )


def certified_right(network: nn.Module, split: Split, threat: Threat) -> torch.Tensor:
    """Where interval bounds prove that the network is right on the ball."""
    found = []
    for part in split.batches(BATCH):
        proof = Ibp().decide(network, part.images, (threat.eps,), noise=SampleNoise(0, part.ids))
        found.append(proof.certified[:, 0] & (proof.prediction == part.labels))
    return torch.cat(found)


def attacked_right(network: nn.Module, split: Split, threat: Threat) -> torch.Tensor:
    """Where the network is right and five steps of PGD do not change that."""
    attack = Pgd(steps=5, step_size_relative=0.5)
    found = [
        attack(network, part.images, part.labels, threat, noise=SampleNoise(0, part.ids, "targets"))
        for part in split.batches(BATCH)
    ]
    return ~torch.cat([outcome.success for outcome in found])
