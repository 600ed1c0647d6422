"""What records of certified networks say: rates, what fine-tuning changed, what an attack broke."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from recuse.analysis.composing import compose_records
from recuse.analysis.compositions import Composition
from recuse.analysis.intervals import Interval, paired_difference
from recuse.analysis.metrics import natural_accuracy, robust_accuracy, robust_inaccuracy
from recuse.analysis.verdicts import Mask, Verdicts, add_radii, verdicts
from recuse.errors import RecordError
from recuse.radius import format_radius
from recuse.records.schema import Record

BASE, GAUSSIAN = "base", "gaussian"


@dataclass(frozen=True, order=True)
class Panel:
    """Networks that are compared: one architecture, one noise level, one round of training.

    Attributes:
        again: Trained anew, with other weights than the networks first measured.
        base: Architecture.
        sigma: Noise level of training and of the certificates.
    """

    again: bool
    base: str
    sigma: float

    @property
    def eps(self) -> str:
        """The attacker's radius, which is the noise level."""
        return format_radius(self.sigma)


@dataclass(frozen=True)
class Answers:
    """Per image, what a certified network by itself does at one radius eps.

    Attributes:
        natural: Its certified class is the right one.
        right: ... and certified at eps.
        wrong: A wrong class is certified at eps: robust inaccuracy.
        far: The right class is certified at 2 eps.
    """

    natural: Mask
    right: Mask
    wrong: Mask
    far: Mask


def panels(records: Iterable[Record]) -> dict[Panel, dict[str, Record]]:
    """Records of smoothed networks by panel and by how they were trained, first the base.

    Raises:
        RecordError: Two records of one training in one panel.
    """
    found: dict[Panel, dict[str, Record]] = {}
    for record in sorted(records, key=lambda r: _rank(r.meta.tags["phase"])):
        tags = record.meta.tags
        panel = Panel(tags.get("trained") == "again", tags["base"], float(tags["sigma"]))
        trained = found.setdefault(panel, {})
        if tags["phase"] in trained:
            raise RecordError(f"{tags['phase']} of {panel} has two records; keep one of them")
        trained[tags["phase"]] = record
    return dict(sorted(found.items()))


def _rank(phase: str) -> tuple[int, float]:
    """Base, Gaussian tuning, then CRA from its largest weight."""
    name, _, beta = phase.partition(" ")
    return (name != BASE) + (name not in (BASE, GAUSSIAN)), -float(beta or 0)


def answers(model: Verdicts, eps: str) -> Answers:
    """What a network certifies, image by image.

    Raises:
        RecordError: Not certified at eps and at twice eps, or without labels.
    """
    accurate, certified = model.accurate(), model.certified(eps)
    return Answers(
        natural=accurate,
        right=accurate & certified,
        wrong=~accurate & certified,
        far=accurate & model.certified(add_radii(eps, eps)),
    )


@dataclass(frozen=True)
class Change:
    """A fine-tuned network minus a reference, paired, as shares of the images.

    Attributes:
        right: Of what is certified right at eps.
        wrong: Of what is certified wrong at eps.
    """

    right: Interval
    wrong: Interval


def change(model: Answers, reference: Answers) -> Change:
    """What one network certifies more than another on the same images."""
    return Change(
        paired_difference(model.right, reference.right),
        paired_difference(model.wrong, reference.wrong),
    )


@dataclass(frozen=True)
class Verdict:
    """How many differences are below 0, above 0, or contain it, by their intervals."""

    lower: int
    higher: int
    neither: int


def verdict(changes: Sequence[Interval]) -> Verdict:
    """Count differences whose interval excludes 0."""
    lower = sum(found.high < 0 for found in changes)
    higher = sum(found.low > 0 for found in changes)
    return Verdict(lower, higher, len(changes) - lower - higher)


def curve(record: Record) -> pl.DataFrame:
    """Percent of the images certified right and wrong at each radius; at radius 0 the accuracy."""
    judged = verdicts(record)
    accurate = judged.accurate()
    rows: list[tuple[float, float, float | None]] = [(0.0, natural_accuracy(accurate), None)]
    for radius in judged.radii("certified"):
        certified = judged.certified(radius)
        right, wrong = robust_accuracy(accurate, certified), robust_inaccuracy(accurate, certified)
        rows.append((float(radius), right, wrong))
    frame = pl.DataFrame(rows, schema=["radius", "right", "wrong"], orient="row")
    return frame.with_columns(pl.col("right", "wrong") * 100)


def composed(record: Record, core: Record, eps: str) -> Composition:
    """A network in front of a core that answers what is not certified, on the network's images."""
    same = pl.col("sample_id").is_in(record.frame["sample_id"].to_list())
    (composition,) = compose_records(
        [record, Record(core.meta, core.frame.filter(same))], eps=eps, kind="certified"
    )
    return composition


@dataclass(frozen=True)
class Broken:
    """What an attack did to the certificates of one network.

    Attributes:
        images: Attacked.
        certified: Of those, certified at the attacked radius.
        broken: Certificates whose class lost the majority of the votes.
        lowest: Smallest share of the votes that a certified class kept.
        moved: Images without a certificate whose class lost the majority: the attack can.
    """

    images: int
    certified: int
    broken: int
    lowest: float
    moved: int


def broken(attacked: Record) -> Broken:
    """Count what an attack on certificates found at its radius.

    Raises:
        RecordError: Not the record of such an attack.
    """
    (radius,) = attacked.meta.radii
    found = verdicts(attacked)
    certified, kept, share = found.certified(radius), found.robust(radius), found.values("score")
    return Broken(
        images=found.samples,
        certified=int(certified.sum()),
        broken=int((certified & ~kept).sum()),
        lowest=float(share[certified].min(initial=1.0)),
        moved=int((~certified & ~kept).sum()),
    )


@dataclass(frozen=True)
class Bounded:
    """What bounds prove of one network at one radius, beside what an attack leaves.

    Attributes:
        model: The network.
        radius: Canonical text.
        accurate: Per image, right without an attack.
        attacked: Right, and the attack found no change.
        proven: Per method, in one order for all networks, proven not to change.
        contradicted: Per method, how many proven images the attack changed all the same.
    """

    model: str
    radius: str
    accurate: Mask
    attacked: Mask
    proven: Mapping[str, Mask]
    contradicted: Mapping[str, int]


def bounded(records: Sequence[Record]) -> list[Bounded]:
    """Each network and radius of records by bounds and by an attack on the same images.

    Raises:
        RecordError: A network that was not attacked, or at other radii or on other images.
    """
    rows = []
    for name in dict.fromkeys(record.meta.model for record in records):
        own = [verdicts(r) for r in records if r.meta.model == name]
        proofs = {
            v.meta.method: v
            for v in sorted(own, key=lambda v: v.meta.method, reverse=True)
            if v.radii("certified")
        }
        attack = next((v for v in own if v.radii()), None)
        if attack is None or any(not attack.ids.equals(v.ids) for v in proofs.values()):
            raise RecordError(f"{name} was not attacked on the images of its proofs")
        for radius in attack.radii():
            changed, right = attack.broken(radius), attack.accurate()
            proven = {method: v.certified(radius) for method, v in proofs.items()}
            against = {m: int(np.sum(mask & changed)) for m, mask in proven.items()}
            rows.append(Bounded(name, radius, right, right & ~changed, proven, against))
    return rows


__all__ = [
    "BASE",
    "GAUSSIAN",
    "Answers",
    "Bounded",
    "Broken",
    "Change",
    "Panel",
    "Verdict",
    "answers",
    "bounded",
    "broken",
    "change",
    "composed",
    "curve",
    "panels",
    "verdict",
]
