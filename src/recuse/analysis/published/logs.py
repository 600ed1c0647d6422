"""Published logs, found by the folder that the printed cells name."""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, Literal

from recuse.analysis.cores import cores, is_standard
from recuse.analysis.loss_names import loss_name
from recuse.analysis.networks import gather
from recuse.analysis.verdicts import Verdicts
from recuse.errors import RecordError
from recuse.radius import parse_radius
from recuse.records.reference_columns import Imported

Kind = Literal["attack", "confidence", "smoothing"]
_NAMES = {"ace_ibp": "ACE-IBP", "ace_colt": "ACE-COLT", "robustbench": "as published"}


class MissingLogError(RecordError):
    """A log that a number needs is not there."""


@dataclass(frozen=True)
class PublishedLog:
    """One log: as published, and with its verdicts made monotone.

    Attributes:
        item: The import.
        raw: Verdicts as published; what the paper's numbers were computed from.
        repaired: Verdicts with every break carried outward, also what an attack on the confidence
            of the same model broke.
    """

    item: Imported
    raw: Verdicts
    repaired: Verdicts

    @classmethod
    def of(cls, item: Imported) -> "PublishedLog":
        """Both views of an import."""
        meta = item.record.meta
        return cls(item, Verdicts(meta, item.raw), Verdicts(meta, item.record.frame))

    @property
    def name(self) -> str:
        """The model's folder name."""
        return self.raw.meta.model

    @property
    def data(self) -> str:
        """Data set and split, with the norm where it is not the usual one."""
        meta = self.raw.meta
        return meta.dataset if meta.norm == "linf" else f"{meta.dataset}, {meta.norm}"

    @property
    def loss(self) -> str:
        """The training loss, as figures write it."""
        loss = self.tag("loss")
        return _NAMES.get(loss, loss_name(loss))

    @property
    def kind(self) -> Kind:
        """What was attacked or certified."""
        if self.raw.meta.method == "smoothing":
            return "smoothing"
        return "confidence" if self.raw.radii("adv_confidence") else "attack"

    @property
    def selective(self) -> bool:
        """Whether the model has a selector of its own."""
        return "selected" in self.raw.frame.columns

    def tag(self, name: str) -> str:
        """A tag as text; empty where absent."""
        value: Any = self.raw.meta.tags.get(name)
        return "" if value is None else str(value)

    def trained_at(self, radius: str) -> bool:
        """Whether the model was trained for this radius."""
        return bool(self.tag("train_eps")) and parse_radius(self.tag("train_eps")) == parse_radius(
            radius
        )


class PublishedLogs:
    """All logs of a folder.

    Attributes:
        entries: In the order of their paths.
    """

    def __init__(self, imports: tuple[Imported, ...]) -> None:
        found = [PublishedLog.of(item) for item in imports]
        whole = gather([e.repaired for e in found], homes=[e.tag("log_dir") for e in found])
        self.entries = tuple(replace(e, repaired=v) for e, v in zip(found, whole, strict=True))
        self._folders: dict[str, list[PublishedLog]] = defaultdict(list)
        for entry in self.entries:
            self._folders[entry.tag("log_dir")].append(entry)

    @property
    def datasets(self) -> list[str]:
        """Data sets with attacked models."""
        return list(dict.fromkeys(e.data for e in self.entries if e.kind == "attack"))

    def attacked(self, dataset: str) -> list[PublishedLog]:
        """Models whose answers were attacked, the cores among them."""
        return [e for e in self.entries if e.kind == "attack" and e.data == dataset]

    def robust_models(self, dataset: str) -> list[PublishedLog]:
        """Labelled attacked models that are no core and have no selector of their own."""
        return [
            e
            for e in self.attacked(dataset)
            if e.raw.labelled and not is_standard(e.raw) and not e.selective
        ]

    def core(self, dataset: str) -> PublishedLog | None:
        """The core of its models; None without one."""
        entries = {id(e.raw): e for e in self.attacked(dataset)}
        found = cores([e.raw for e in entries.values()])
        return entries[id(found[0])] if found else None

    def confidence_of(self, entry: PublishedLog) -> PublishedLog | None:
        """The log of the attack on the same model's confidence; None without one."""
        beside = self._folders[entry.tag("log_dir")]
        same = [e for e in beside if e.kind == "confidence" and e.data == entry.data]
        return same[0] if same else None

    def find(self, folder: str, kind: Kind, eps: str) -> PublishedLog:
        """The log of one kind in a model's folder.

        Of several smoothing logs the one whose noise the model was trained with, else the one
        whose noise is nearest to half the radius, as in the paper's tables.

        Raises:
            MissingLogError: No such folder, or no log of this kind in it.
        """
        name = folder.strip("/")
        inside = [
            e
            for path, found in self._folders.items()
            if path == name or path.endswith(f"/{name}")
            for e in found
            if e.kind == kind
        ]
        if not inside:
            raise MissingLogError(f"no {kind} log in {folder}")
        return (
            min(inside, key=lambda e: _noise_distance(e, eps)) if kind == "smoothing" else inside[0]
        )


def _noise_distance(entry: PublishedLog, eps: str) -> tuple[bool, float]:
    sigma = float(entry.raw.meta.settings.get("sigma", 0.0))
    trained = entry.tag("train_sigma")
    return not (trained and float(trained) == sigma), abs(sigma - parse_radius(eps) / 2)
