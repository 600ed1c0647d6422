"""Weight files of RobustBench in our own networks; its package is not needed.

Get a file from RobustBench, name its entry, and attack the network like any other. Only tensors
are read from the file.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from recuse.errors import ConfigError
from recuse.models.architectures import Architecture
from recuse.models.cards import Card, card_for
from recuse.models.foreign import load_foreign
from recuse.models.manifest import CIFAR10_LABELS
from recuse.models.preact_resnet import PreActResNet
from recuse.models.resnet import ResNet
from recuse.models.wide_resnet import SwishWideResNet, WideResNet

THREATS = {"linf": "Linf", "l2": "L2"}
Channels = tuple[float, ...]
CIFAR_MEAN: Channels = (0.4914, 0.4822, 0.4465)
CIFAR_STD: Channels = (0.2471, 0.2435, 0.2616)
NARROW_STD: Channels = (0.2023, 0.1994, 0.2010)
HALF: Channels = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Entry:
    """One CIFAR-10 entry: its network, the normalisation inside, and the threat it is ranked at.

    Attributes:
        architecture: Config of the network.
        mean: Normalisation; empty for none.
        std: Normalisation; empty for none.
        norm: Norm of the leaderboard; empty for a standard network.
        eps: Radius of the leaderboard; empty for a standard network.
    """

    architecture: Architecture
    mean: Channels = ()
    std: Channels = ()
    norm: str = "linf"
    eps: str = "8/255"


ENTRIES: dict[str, Entry] = {
    "Standard": Entry(WideResNet(28, 10), norm="", eps=""),
    "Carmon2019Unlabeled": Entry(WideResNet(28, 10)),
    "Sehwag2020Hydra": Entry(WideResNet(28, 10)),
    "Wang2020Improving": Entry(WideResNet(28, 10)),
    "Zhang2020Geometry": Entry(WideResNet(28, 10)),
    "Wu2020Adversarial_extra": Entry(WideResNet(28, 10)),
    "Hendrycks2019Using": Entry(WideResNet(28, 10), HALF, HALF),
    "Zhang2019Theoretically": Entry(WideResNet(34, 10)),
    "Wu2020Adversarial": Entry(WideResNet(34, 10)),
    "Sehwag2021Proxy": Entry(WideResNet(34, 10)),
    "Addepalli2022Efficient_WRN_34_10": Entry(WideResNet(34, 10)),
    "Rice2020Overfitting": Entry(WideResNet(34, 20), CIFAR_MEAN, CIFAR_STD),
    "Andriushchenko2020Understanding": Entry(PreActResNet(18)),
    "Wong2020Fast": Entry(PreActResNet(18), CIFAR_MEAN, CIFAR_STD),
    "Engstrom2019Robustness": Entry(ResNet(50), CIFAR_MEAN, NARROW_STD),
    "Sehwag2021Proxy_R18": Entry(ResNet(18)),
    "Addepalli2022Efficient_RN18": Entry(ResNet(18)),
    "Gowal2020Uncovering_28_10_extra": Entry(SwishWideResNet(28, 10), CIFAR_MEAN, CIFAR_STD),
    "Gowal2020Uncovering_70_16_extra": Entry(SwishWideResNet(70, 16), CIFAR_MEAN, CIFAR_STD),
    "Rebuffi2021Fixing_28_10_cutmix_ddpm": Entry(SwishWideResNet(28, 10), CIFAR_MEAN, CIFAR_STD),
    "Rade2021Helper_ddpm": Entry(SwishWideResNet(28, 10), CIFAR_MEAN, CIFAR_STD),
    "Gowal2021Improving_28_10_ddpm_100m": Entry(SwishWideResNet(28, 10), CIFAR_MEAN, CIFAR_STD),
    "Pang2022Robustness_WRN28_10": Entry(SwishWideResNet(28, 10), CIFAR_MEAN, CIFAR_STD),
    "Wang2023Better_WRN-28-10": Entry(SwishWideResNet(28, 10), CIFAR_MEAN, CIFAR_STD),
    "Rice2020OverfittingL2": Entry(
        PreActResNet(18, final_norm=True, activated_shortcut=True),
        CIFAR_MEAN,
        CIFAR_STD,
        norm="l2",
        eps="0.5",
    ),
}


def find_robustbench(text: str, folder: Path) -> tuple[nn.Module, Card | None]:
    """An entry as a command line names it, from where RobustBench keeps its files.

    Args:
        text: ``NAME/threat`` of a CIFAR-10 entry, such as ``Wong2020Fast/Linf``.
        folder: The models folder; files lie in ``cifar10/Linf`` there, or in
            ``models/cifar10/Linf`` of the working folder.

    Returns:
        The network and its card; without a card where RobustBench builds it.

    Raises:
        ConfigError: Another threat than the entry's, or an entry that is neither one of ``ENTRIES``
            nor RobustBench's, or whose file is not there.
        DataError: See :func:`load_robustbench`.
    """
    name, _, threat = text.partition("/")
    entry = ENTRIES.get(name)
    norm = threat.lower() or (entry.norm if entry else "") or "linf"
    if norm not in THREATS or (entry is not None and entry.norm not in ("", norm)):
        own = f"{name}/{THREATS[entry.norm]}" if entry and entry.norm else "NAME/Linf or NAME/L2"
        raise ConfigError(f"robustbench:{text} is no entry; write robustbench:{own}")
    file = Path("cifar10", THREATS[norm], f"{name}.pt")
    places = (folder / file, Path("models") / file)
    found = next((path for path in places if path.is_file()), None)
    if found is None or entry is None:
        return _from_package(name, norm, places[0], known=entry is not None), None
    return load_robustbench(found, name)


def _from_package(name: str, norm: str, place: Path, *, known: bool) -> nn.Module:
    """The network as RobustBench builds it, which fetches its file."""
    try:
        package = importlib.import_module("robustbench")
    except ImportError as error:
        raise ConfigError(
            f"{name} is not at {place}; put RobustBench's file there"
            if known
            else f"RobustBench entry {name!r} is known only to the package robustbench, which is "
            f"not installed; known here: {', '.join(ENTRIES)}"
        ) from error
    try:
        network: nn.Module = package.load_model(
            model_name=name,
            dataset="cifar10",
            threat_model=THREATS[norm],
            model_dir=place.parents[2],
        )
    except Exception as error:  # network, format and file errors of many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"RobustBench cannot give the entry {name!r}: {reason}") from error
    return network.eval()


def load_robustbench(path: Path, entry: str) -> tuple[nn.Module, Card]:
    """Load a downloaded RobustBench weight file.

    Args:
        path: The ``.pt`` file.
        entry: Name of the CIFAR-10 entry, a key of ``ENTRIES``.

    Returns:
        The network (images in [0, 1] to logits) in eval mode on the CPU, and its card.

    Raises:
        ConfigError: An entry whose network is not one of ours; the sentence lists those that are.
        DataError: A damaged or unsafe file, or one of another network.
    """
    if entry not in ENTRIES:
        raise ConfigError(f"RobustBench entry {entry!r} is unknown; known: {', '.join(ENTRIES)}")
    known = ENTRIES[entry]
    card = card_for(
        f"robustbench/{entry}",
        known.architecture,
        mean=known.mean,
        std=known.std,
        origin=f"RobustBench CIFAR-10 entry {entry}",
        norm=known.norm,
        eps=known.eps,
        label_names=CIFAR10_LABELS,
    )
    return load_foreign(path, card)
