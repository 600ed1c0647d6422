"""Sections of the certified study: attacks on certificates, and bounds beside an attack."""

from collections.abc import Mapping, Sequence
from typing import Any

from recuse.analysis.certified import Panel, bounded, broken, panels
from recuse.analysis.metrics import rate
from recuse.records.schema import Record
from recuse.report.study.certified_figures import title_of
from recuse.report.study.markdown import table

ATTACKED = """## Certificates under attack

Images with a certified class are attacked at ε = σ by {steps} steps of APGD in L2 that climb the
expectation over {copies} draws. A certificate is *broken* if its class has no majority of the
votes at the point found ({draws:,} votes, {thorough:,} where it has less than {clear:.0f} % of
them). *Moved*: images without a certificate at ε whose class lost the majority, which shows that
the attack works. Broken: {broken} of {certified} certificates (networks: {networks}).{left}
"""
LEFT = """ The certificates of the other {count} networks of this page were not attacked: their
weights were not kept."""
BOUNDS = """## Bounds of provably trained networks

What interval bounds (*ibp*) and linear bounds (*crown*) prove about networks that were trained to
be provable, in Linf, beside what {steps} steps of PGD leave, in percent of {images} test images.
*Contradicted*: proven, and changed by PGD, in images.
"""


def attacked_section(
    records: Sequence[Record], found: Mapping[Panel, Mapping[str, Record]]
) -> list[str]:
    """What the attack did to the certificates, network by network, and which it did not meet."""
    rows, met = [], {record.meta.weights for record in records}
    for panel, trained in panels(records).items():
        for name, record in trained.items():
            counts = broken(record)
            numbers = (counts.images, counts.certified, counts.broken)
            lowest = f"{100 * counts.lowest:.1f} %"
            rows.append([title_of(panel), name, *map(str, numbers), lowest, str(counts.moved)])
    left = sum(r.meta.weights not in met for trained in found.values() for r in trained.values())
    if not rows:
        return []
    total, false = (sum(int(row[place]) for row in rows) for place in (3, 4))
    heads = ["network", "training", "images", "certified", "broken"]
    return [
        ATTACKED.format(
            **_words(records[0].meta.settings["attack"]),
            broken=false,
            certified=total,
            networks=len(rows),
            left=LEFT.format(count=left) if left else "",
        ),
        *table([*heads, "lowest share of votes", "moved"], rows),
    ]


def _words(attack: Mapping[str, Any]) -> dict[str, int | float]:
    """The attack on certificates, as its text names it."""
    counts = {name: attack[name] for name in ("copies", "draws", "thorough")}
    return counts | {"steps": attack["attack"]["steps"], "clear": 100 * attack["clear"]}


def bounds_section(records: Sequence[Record]) -> list[str]:
    """What bounds prove, beside PGD."""
    if not records:
        return []
    found = bounded(records)
    attacks = (r.meta.settings["attack"] for r in records if "attack" in r.meta.settings)
    steps = next(attacks)["steps"]
    methods = list(found[0].proven)
    heads = [
        f"{method} {word}" for method in methods for word in ("right", "wrong", "contradicted")
    ]
    rows = []
    for row in found:
        cells = [f"{100 * rate(row.accurate):.0f}", f"{100 * rate(row.attacked):.0f}"]
        for method, mask in row.proven.items():
            cells += [
                f"{100 * rate(mask & row.accurate):.0f}",
                f"{100 * rate(mask & ~row.accurate):.0f}",
            ]
            cells.append(str(row.contradicted[method]))
        rows.append([row.model, row.radius, *cells])
    text = BOUNDS.format(images=found[0].accurate.size, steps=steps)
    return [text, *table(["network", "radius", "natural", "PGD right", *heads], rows)]


__all__ = ["attacked_section", "bounds_section"]
