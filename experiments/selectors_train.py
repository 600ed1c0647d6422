"""Train what the comparison of selectors needs: a certified classifier and selection networks.

Published ACE: an IBP-trained classifier with an IBP-trained selection network that learns to
accept what the classifier is certified right about. Beside it a selection network of the same
kind for an adversarially trained classifier, whose targets are decided by an attack.
"""

from pathlib import Path

import torch
from torch import nn

from recuse.attacks import Pgd
from recuse.certify.ibp import Ibp
from recuse.data.split import Split, Splits
from recuse.models import architecture, build_seeded, card_for, load_checkpoint, save_checkpoint
from recuse.models.normalize import normalized
from recuse.progress import Progress
from recuse.random import SampleNoise
from recuse.selectors import acceptance_split
from recuse.threat import Threat
from recuse.training.config import TrainConfig, Validation
from recuse.training.ibp import IbpTraining
from recuse.training.loop import fit
from recuse.training.schedule import Cosine, Ramp

THREAT = Threat("linf", "2/255")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
BATCH = 500


# From fresh weights the radius reaches its full size at 60 % of the epochs; from certified
# features, of which a selection network only needs others, much sooner.
FRESH, WARM = Ramp(0.1, 0.6), Ramp(0.0, 0.2)


def ibp_config(epochs: int, ramp: Ramp) -> TrainConfig:
    """Short certified training."""
    return TrainConfig(
        objective=IbpTraining(kappa=0.5, ramp=ramp),
        threat=THREAT,
        epochs=epochs,
        batch_size=200,
        lr=0.02,
        weight_decay=0.0,
        schedule=Cosine(),
        clip_norm=2.0,
        validation=Validation(Pgd(steps=1), every=epochs, limit=500),
    )


def certified_classifier(parts: Splits, work: Path, progress: Progress) -> nn.Module:
    """The small network trained by interval bounds at 2/255."""
    network = fresh(10)
    config = ibp_config(8, FRESH)
    return trained("ibp_small", network, parts.train, parts.validation, config, work, progress)


def selection_network(
    name: str,
    right: tuple[torch.Tensor, torch.Tensor],
    features: nn.Module,
    parts: Splits,
    work: Path,
    progress: Progress,
) -> nn.Module:
    """A selection network for targets on the training and the validation images.

    It starts from the features of the certified classifier with a head of its own; from fresh
    weights it learns next to nothing in so few epochs.
    """
    network, known = fresh(2), features.state_dict()
    own = network.state_dict()
    network.load_state_dict(
        {k: known[k] if known[k].shape == v.shape else v for k, v in own.items()}
    )
    train = acceptance_split(parts.train, right[0])
    validation = acceptance_split(parts.validation, right[1])
    return trained(name, network, train, validation, ibp_config(6, WARM), work, progress)


def fresh(classes: int) -> nn.Module:
    """The small network with weights of its own."""
    return normalized(build_seeded(architecture("small", classes=classes), 0), MEAN, STD)


def trained(
    name: str,
    network: nn.Module,
    train: Split,
    validation: Split,
    config: TrainConfig,
    work: Path,
    progress: Progress,
) -> nn.Module:
    """The network trained and saved; loaded if it is there already."""
    path = work / f"{name}.safetensors"
    if path.exists():
        return load_checkpoint(path)[0]
    fit(network, train, validation, config, work / name, name=name, progress=progress)
    card = card_for(
        name,
        architecture("small", classes=train.classes),
        mean=MEAN,
        std=STD,
        norm=THREAT.norm,
        eps=THREAT.radius,
        training=f"interval bounds, {config.epochs} epochs",
        label_names=train.label_names,
    )
    save_checkpoint(path, network, card)
    return network


def certified_right(network: nn.Module, split: Split) -> torch.Tensor:
    """Where the network is right and proven constant on the ball."""
    found = [
        Ibp()(network, part.images, THREAT, noise=SampleNoise(0, part.ids))
        for part in split.batches(BATCH)
    ]
    radius = torch.cat([c.radius for c in found])
    return (radius >= THREAT.eps) & (torch.cat([c.prediction for c in found]) == split.labels)


def attacked_right(network: nn.Module, split: Split) -> torch.Tensor:
    """Where the network is right and five steps of PGD do not change that."""
    attack = Pgd(steps=5, step_size_relative=0.5)
    found = [
        attack(network, part.images, part.labels, THREAT, noise=SampleNoise(0, part.ids, "targets"))
        for part in split.batches(BATCH)
    ]
    return ~torch.cat([outcome.success for outcome in found])


def train_all(
    parts: Splits, robust: nn.Module, work: Path, progress: Progress
) -> dict[str, nn.Module]:
    """Every network the comparison trains itself, by name; resumable."""
    classifier = certified_classifier(parts, work, progress)
    known = {"ibp_small": classifier}
    for name, network, decide in (
        ("ace_ibp", classifier, certified_right),
        ("select_adv2", robust, attacked_right),
    ):
        saved = work / f"{name}.safetensors"
        if saved.exists():
            known[name] = load_checkpoint(saved)[0]
            continue
        right = decide(network, parts.train), decide(network, parts.validation)
        known[name] = selection_network(name, right, classifier, parts, work, progress)
    return known
