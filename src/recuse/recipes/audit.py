"""An audit: one network attacked, its slopes, its pictures, and, with a core, the two composed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from recuse.analysis.audit import Audit
from recuse.analysis.audit import audit as count
from recuse.analysis.verdicts import Mask
from recuse.composition.members import check_classes
from recuse.data import Split
from recuse.errors import ConfigError
from recuse.evaluation import Evaluation, evaluate
from recuse.evaluation.placing import FIRST, clean_logits, placed
from recuse.geometry import Lipschitz
from recuse.models.checkpoint import weights_sha256
from recuse.modes import evaluation_mode
from recuse.progress import Progress, silent
from recuse.recipes.config import SlopePlan
from recuse.recipes.gallery import attacked_pictures, pictures
from recuse.recipes.measure import slope_row, slope_settings
from recuse.records.layout import AUDIT, RECORDS, SLOPES
from recuse.records.run_folder import attack_records, read_mapping
from recuse.records.schema import Record
from recuse.records.store import read_records, write_atomically
from recuse.report.audit.page import audit_page
from recuse.report.audit.words import Asked, Slope, paragraph
from recuse.report.page.html import write_html

SHOWN = 6
SMOOTHNESS_IMAGES = 32
_METHODS = (Lipschitz(), Lipschitz(output="probabilities"))


@dataclass(frozen=True, eq=False)
class Member:
    """A network of an audit.

    Attributes:
        network: In eval mode, where it computes.
        name: Shown to people.
        role: What its record says of its part.
    """

    network: nn.Module
    name: str
    role: str


def run_audit(
    members: Sequence[Member],
    split: Split,
    evaluation: Evaluation,
    asked: Asked,
    out: Path,
    *,
    tags: Mapping[str, Any] | None = None,
    repair: bool = False,
    progress: Progress = silent,
) -> str:
    """Attack what is not yet attacked, and write the page; the same call goes on after a kill.

    Args:
        members: The network, and the core it is to be composed with, if there is one.
        split: The images.
        evaluation: At the attacker's radius and its double.
        asked: How it was asked for.
        out: The run folder.
        tags: What records keep of the images.
        repair: Attack again the images of damaged files of a record.
        progress: Told as work proceeds.

    Returns:
        What was found, in one paragraph.

    Raises:
        RecuseError: A network that does not fit the images or the core, or anything else that
            cannot be done as asked.
    """
    _check(members, split)
    how: dict[str, Any] = {"records": out / RECORDS, "repair": repair, "progress": progress}
    records = [
        evaluate(m.network, split, evaluation, name=m.name, tags=_tags(m, tags), **how)
        for m in members
    ]
    judged = split if evaluation.limit is None else split.head(evaluation.limit)
    slopes = [_slope(member, judged, evaluation, out, progress) for member in members]
    found = count(
        records[0],
        evaluation.threats[0].radius,
        classes=split.classes,
        core=records[1] if len(records) > 1 else None,
        records=_others(out, records),
        attacks=attack_records(out),
    )
    page = audit_page(
        found,
        slopes,
        asked,
        label_names=split.label_names,
        **_pictures(found, members[0], split, evaluation),
    )
    write_html(page, out / AUDIT)
    return paragraph(found, slopes, asked)


def _check(members: Sequence[Member], split: Split) -> None:
    """Refuse networks that do not fit before hours are spent on the first of them."""
    counts = []
    for member in members:
        with evaluation_mode(member.network):
            first = split.head(FIRST)
            x = placed(member.network, first.images, member.name)
            logits = clean_logits(member.network, x, first, name=member.name)
        counts.append(int(logits.shape[1]))
    check_classes(members[0].name, counts[0], members[-1].name, counts[-1])
    if len({weights_sha256(member.network) for member in members}) < len(members):
        raise ConfigError(
            f"the core {members[1].name!r} is the network that is audited; name another, accurate "
            "one (--core), or leave it out"
        )


def _tags(member: Member, tags: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"role": member.role, **(tags or {})}


def _others(out: Path, records: Sequence[Record]) -> list[Record]:
    keys = {record.meta.key for record in records}
    return [record for record in read_records(out) if record.meta.key not in keys]


def _slope(
    member: Member, judged: Split, evaluation: Evaluation, out: Path, progress: Progress
) -> Slope:
    """The slopes of a network near the first images, measured once a run folder."""
    images = min(SMOOTHNESS_IMAGES, len(judged))
    plan = SlopePlan(evaluation.threats[0], _METHODS, images, evaluation.seed)
    settings, kept = slope_settings(plan, judged), read_mapping(out / SLOPES)
    rows = list(kept.get("rows", ())) if kept.get("settings") == settings else []
    weights = weights_sha256(member.network)
    row = next((r for r in rows if (r["model"], r["weights"]) == (member.name, weights)), None)
    if row is None:
        parts = {"test": judged.head(images)}
        row = slope_row(member.network, member.name, parts, plan, progress)
        text = json.dumps({"settings": settings, "rows": [*rows, row]}, indent=1)
        write_atomically(out / SLOPES, text.encode())
    return Slope(member.name, images, row["test_logits"], row["test_probabilities"])


def _pictures(found: Audit, member: Member, split: Split, evaluation: Evaluation) -> dict[str, Any]:
    """Robust mistakes, and right answers that the attack moves, the most confident of each."""
    model, ball = found.network, evaluation.threats[0]
    right, robust, broken = model.accurate(), model.robust(ball.eps), model.broken(ball.eps)

    def most_confident(mask: Mask) -> list[str]:
        order = np.argsort(-model.confidence(), kind="stable")
        return [str(model.ids[int(i)]) for i in order if mask[i]][:SHOWN]

    with evaluation_mode(member.network):
        return {
            "stubborn": pictures(member.network, split, most_confident(~right & robust)),
            "broken": attacked_pictures(
                member.network,
                split,
                most_confident(right & broken),
                evaluation,
                name=member.name,
                eps=ball.eps,
            ),
        }


__all__ = ["Member", "run_audit"]
