"""Foreign weights become a checkpoint with a card in the models folder."""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from recuse.errors import ConfigError, DataError
from recuse.models.cards import Card, card_for
from recuse.models.checkpoint import SUFFIX, read_tensors
from recuse.models.foreign import load_foreign, network_tensors, normalisation, read_state_dict
from recuse.models.recognise import named, recognised
from recuse.models.zoo import entries_of
from recuse.records.store import slug

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


def import_weights(
    path: Path,
    name: str,
    *,
    arch: str | None = None,
    normalise: Normalisation | None = None,
    labels: Sequence[str] = (),
) -> tuple[nn.Module, Card]:
    """A network from a foreign weight file, checked in full before anything is written.

    Args:
        path: As :func:`recuse.models.foreign.read_state_dict` takes it.
        name: Of the network.
        arch: Its architecture as text; by default the one that names and shapes tell.
        normalise: Mean and standard deviation per channel, in pixel units; two empty tuples for a
            network that takes images in [0, 1] as they are. By default what the file holds.
        labels: One name per class; by default their numbers.

    Returns:
        The network in eval mode on the CPU, normalisation inside, and its card.

    Raises:
        ConfigError: An unknown architecture or another than the weights', or a normalisation that
            is not known, differs from the file's, or is in 255 steps.
        DataError: A file that cannot be read or used, or labels for another number of classes.
    """
    if path.suffix == SUFFIX and "card" in read_tensors(path, weights=False)[0]:
        raise ConfigError(
            f"{path} is a checkpoint with a card already: name it as MODEL, or put it into the "
            "models folder"
        )
    state = read_state_dict(path)
    tensors = network_tensors(state)
    config = recognised(tensors, path) if arch is None else named(arch, tensors, path)
    mean, std = _normalisation(path, normalisation(state, path), normalise)
    names = tuple(labels) or tuple(map(str, range(config.classes)))
    facts = {"origin": path.name, "label_names": names}
    return load_foreign(path, card_for(name, config, mean=mean, std=std, **facts))


def place_for(name: str, folder: Path) -> Path:
    """Where a network of this name will lie in a models folder.

    Raises:
        ConfigError: A name that could not be asked for, or is taken.
    """
    if slug(name) != name or name.startswith(".") or name.endswith(SUFFIX):
        raise ConfigError(
            f"model name {name!r} must be letters, digits, '.', '_' and '-', such as signs-resnet18"
        )
    if name in entries_of(folder):
        raise ConfigError(f"{folder} has a model {name!r} already; take another --name")
    return folder / f"{name}{SUFFIX}"


def read_labels(path: Path) -> tuple[str, ...]:
    """Names of classes: a JSON list, or one name per line.

    Raises:
        DataError: The file cannot be read, or names no class or one of them twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        listed = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"label names {path} cannot be read: {error}") from error
    names = tuple(str(name).strip() for name in listed if str(name).strip())
    if len(set(names)) != len(names) or not names:
        raise DataError(f"{path} must hold one label name per line, each once")
    return names


def _normalisation(
    path: Path, found: Normalisation | None, given: Normalisation | None
) -> Normalisation:
    if given is None and found is None:
        raise ConfigError(
            f"{path} does not say how its network's inputs are normalised: give --mean and --std, "
            "one number per channel in pixel units of [0, 1], or --no-normalisation where it takes "
            "images in [0, 1] as they are"
        )
    if given is not None and found is not None and given != found:
        raise ConfigError(
            f"{path} holds a normalisation of its own, mean {list(found[0])} and std "
            f"{list(found[1])}; leave out --mean and --std"
        )
    mean, std = given or found or ((), ())
    if max(mean, default=0.0) > 1:
        raise ConfigError(
            f"mean {list(mean)} is in steps of 255, but images here are in [0, 1]; give mean and "
            "std divided by 255"
        )
    return mean, std


__all__ = ["import_weights", "place_for", "read_labels"]
