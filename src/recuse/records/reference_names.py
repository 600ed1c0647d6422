"""What a published log is, read from its path: data set, norm, attack, loss, radius, base model.

The authors of the paper kept one folder a model and one CSV an attack, and wrote everything
else into the names: ``mrevadv/cifar10/Linf/2_255/mra2_255__<base>/mra2_255__<base>__<time>/
testset_cifar10_Linf_apgd.csv``.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from recuse.errors import RecordError
from recuse.radius import format_radius, parse_norm, parse_radius

ATTACKS = {"apgdconf": "apgd-conf"}
# The prefix of a fine-tuned model's folder, and the loss of the paper that it stands for.
FINE_TUNED = {"mra": "era", "gra": "dga", "rcr": "cra"}
_ATTACKED = re.compile(r"(?P<split>[a-z]+)set_(?P<dataset>.+)_(?P<norm>Linf|L2)_(?P<attack>\w+)")
_SMOOTHED = re.compile(r"(?P<split>[a-z]+)set_smooth(?P<sigma>[\d.]+)_N0(?P<n0>\d+)_N(?P<n>\d+)")
_AUGMENTATIONS = ("autoaugment", "stdaug")
_TIME = re.compile(r"__(\d{8}_\d{4})$")


@dataclass(frozen=True)
class LogName:
    """A log's path, understood.

    Attributes:
        log: The path as published.
        folder: The model's folder, as ``log_dirs`` of the printed cells name it.
        dataset: Data set and split, for example ``"cifar10/test"``.
        norm: ``"linf"`` or ``"l2"``.
        attack: ``"apgd"``, ``"apgd-conf"``, ``"pgd"``, ``"smoothing"``.
        settings: Noise and sample counts of smoothing.
        tags: ``loss``, ``base``, ``train_eps`` and the like, as far as the names tell.
    """

    log: str
    folder: str
    dataset: str
    norm: str
    attack: str
    settings: dict[str, Any]
    tags: dict[str, Any]


def read_name(log: str) -> LogName:
    """Understand a log's path.

    Raises:
        RecordError: The file name is not of the published form.
    """
    path = PurePosixPath(log)
    if found := _ATTACKED.fullmatch(path.stem):
        folder, dataset = path.parent, found["dataset"]
        norm, attack, settings = found["norm"], found["attack"], {}
    elif found := _SMOOTHED.fullmatch(path.stem):
        folder = path.parent.parent if path.parent.name == "smoothing" else path.parent
        dataset = _dataset_of(folder, log)
        norm, attack = "l2", "smoothing"
        settings = {"sigma": float(found["sigma"]), "n0": int(found["n0"]), "n": int(found["n"])}
    else:
        raise RecordError(
            f"{log}: the file name is neither <split>set_<data>_<Linf|L2>_<attack> "
            "nor <split>set_smooth<sigma>_N0<n0>_N<n>"
        )
    tags = _model_tags(folder, dataset) | {"log": log, "log_dir": str(folder)}
    if attack == "smoothing":
        tags["sigma"] = settings["sigma"]
    return LogName(
        log=log,
        folder=str(folder),
        dataset=f"{dataset}/{found['split']}",
        norm=parse_norm(norm),
        attack=ATTACKS.get(attack, attack),
        settings=settings,
        tags=tags,
    )


def radius_of(text: str) -> str:
    """A radius as the logs write it (``2_255``, ``0.25``), as canonical text.

    >>> radius_of("2_255"), radius_of("0.25")
    ('2/255', '0.25')
    """
    return format_radius(parse_radius(text.replace("_", "/")))


def _dataset_of(folder: PurePosixPath, log: str) -> str:
    """Smoothing logs name their data set only as a folder: ``<family>/<dataset>/…``."""
    if len(folder.parts) < 3:
        raise RecordError(
            f"{log}: the path names no data set; expected <family>/<data set>/<model>"
        )
    return folder.parts[1]


def _model_tags(folder: PurePosixPath, dataset: str) -> dict[str, Any]:
    time = _TIME.search(folder.name)
    name = _TIME.sub("", folder.name)
    tags: dict[str, Any] = {"augmentation": _augmentation(name)}
    if time:
        tags["timestamp"] = time[1]
    for read in (_fine_tuned, _adversarial, _noisy, _selective):
        if found := read(name, dataset):
            return tags | found
    return tags | _plain(name, dataset, folder.parts[0])


def _augmentation(name: str) -> str:
    return next((word for word in _AUGMENTATIONS if f"_{word}_" in f"{name}_"), "none")


def _base(name: str, dataset: str) -> str:
    return name.partition(f"_{dataset}_")[0].removesuffix(f"_{dataset}")


def _fine_tuned(name: str, dataset: str) -> dict[str, Any]:
    found = re.match(r"(mra|gra|rcr)(\d+_255|[\d.]+)[a-z_]*__(.+)$", name)
    if not found:
        return {}
    tags: dict[str, Any] = {"loss": FINE_TUNED[found[1]], "init": found[3], "finetuned": True}
    tags["base"] = _base(found[3], dataset)
    if found[1] == "rcr":
        return tags | {"train_sigma": found[2]}
    return tags | {"train_eps": radius_of(found[2])}


def _adversarial(name: str, dataset: str) -> dict[str, Any]:
    found = re.match(rf"(.+)_{re.escape(dataset)}_(?:\w+_)?(trades)(\d+_255|[\d.]+)(ft)?$", name)
    if not found:
        return {}
    eps = radius_of(found[3])
    return {"loss": found[2], "base": found[1], "train_eps": eps, "finetuned": bool(found[4])}


def _noisy(name: str, dataset: str) -> dict[str, Any]:
    found = re.match(rf"(.+)_{re.escape(dataset)}_(?:\w+_)?gaussaugm([\d.]+)(ft)?$", name)
    if not found:
        return {}
    return {
        "loss": "gaussian",
        "base": found[1],
        "train_sigma": found[2],
        "finetuned": bool(found[3]),
    }


def _selective(name: str, dataset: str) -> dict[str, Any]:
    found = re.match(r"ACE_Net_(IBP|COLT)_cert_(\d+_255|[\d.]+)$", name)
    if not found:
        return {}
    return {"loss": f"ace_{found[1].lower()}", "train_eps": radius_of(found[2])}


def _plain(name: str, dataset: str, family: str) -> dict[str, Any]:
    """A model used as published; its training radius is not in its name."""
    loss = "std" if family == "std" or name.endswith("_std") else "robustbench"
    return {"loss": loss, "base": _base(name, dataset).removesuffix("_std"), "finetuned": False}
