"""Tables of the comparison of ways to abstain."""

from collections.abc import Mapping, Sequence

import numpy as np

from recuse.analysis.attacked_settings import AttackedSetting, leader
from recuse.analysis.compositions import core_of
from recuse.analysis.intervals import paired_difference, wilson_of
from recuse.analysis.metrics import rate, robust_accuracy, robust_inaccuracy, selective_risk
from recuse.analysis.operating_points import CORE, EPS, LOSS, ROBUST, TRUNK, Candidates, pool
from recuse.analysis.selector_study import SPLITS, halves_at_random, rates_of_splits
from recuse.analysis.sweeps import (
    Tables,
    accounts_of,
    column,
    stage_at,
    verdict,
)
from recuse.analysis.verdicts import Mask, Values
from recuse.report.page.blocks import Cell, Column, Points, Rate, Spread, Table

LOSSES = (0.0, LOSS)


def share(mask: Mask) -> Rate:
    """A rate with its Wilson interval."""
    found = wilson_of(mask)
    return Rate(found.estimate, found.low, found.high)


def difference(first: Mask, second: Mask) -> Points:
    """A paired difference with its bootstrap interval."""
    found = paired_difference(first, second)
    return Points(found.estimate, found.low, found.high)


def adversary_table(found: Sequence[AttackedSetting]) -> Table:
    """Every mechanism at its operating point, as deployed and under the adversary."""
    columns = (
        "eps",
        Column("mechanism", meaning="How the stages select; the core answers the rest"),
        Column("setting", meaning="Classifier and threshold of each stage"),
        Column("natural", "%", "Right answers without an attack"),
        Column("sound", "%", "Right in the whole ball, by the sound accounting"),
        Column("attacked", "%", "Right answers the adaptive adversary could not change"),
        Column("violations", "", "Rows the sound bound calls safe that an adversary broke"),
        Column("core asked", "%", "Inputs that reach the core"),
        Column("... attacked", "%", "Inputs that an attacker can bring to the core"),
        Column("passes", "", "Network passes per input, of whatever network", decimals=1),
    )
    rows = tuple(
        (
            a.setting.eps,
            a.setting.name,
            a.setting.words,
            share(a.natural),
            None if a.sound is None else share(a.sound),
            share(a.robust),
            None if a.sound is None else a.violations,
            *(core_share(a, name) for name in ("asks_core", "asks_core_attacked")),
            float(column(a.frame, "cost").mean()),
        )
        for a in found
    )
    return Table(
        "Mechanisms at equal natural loss, by both counts",
        columns,
        rows,
        caption="Thresholds and weights are chosen on every other image for the best sound bound "
        "(entropy response and the mixture: the most permissive) at a natural loss of at most one "
        "point there; the indicator and the networks alone have none to choose. All columns are of "
        "the other half. Sound: a lower bound as strong as the attacks behind it; attacked: an "
        "upper bound, as low as the adversary could push it. –: nothing measured gives a bound.",
        within=("eps",),
    )


def core_share(found: AttackedSetting, name: str) -> Rate | None:
    """Share of the inputs that reach the core, for what has stages in front of one."""
    return Rate(rate(verdict(found.frame, name))) if found.setting.point.models else None


def difference_table(found: Sequence[AttackedSetting]) -> Table:
    """Paired differences of every mechanism to the leader, in both counts."""
    rows = []
    for eps in dict.fromkeys(a.setting.eps for a in found):
        here = [a for a in found if a.setting.eps == eps]
        first = leader(here)
        for other in (a for a in here if a is not first):
            sound = None
            if other.sound is not None and first.sound is not None:
                sound = difference(other.sound, first.sound)
            natural = difference(other.natural, first.natural)
            robust = difference(other.robust, first.robust)
            rows.append((eps, other.setting.name, first.setting.name, natural, sound, robust))
    units = [Column(name, "points") for name in ("natural", "sound", "attacked")]
    return Table(
        "Against the mechanism of the best sound bound, paired on the same images",
        ("eps", "mechanism", "against", *units),
        tuple(rows),
        caption="Negative: less than the mechanism it is compared with, which was found on the "
        "choosing half among those that keep the core's natural accuracy within three points "
        "there. 95 % intervals by paired bootstrap.",
        within=("eps",),
    )


def single_table(tables: Tables) -> Table:
    """The networks by themselves."""
    rows = []
    for name in (CORE, *pool(tables.networks), TRUNK):
        t = tables[name]
        right = t.accurate()
        for eps in EPS:
            robust = t.robust(eps)
            proven = Rate(rate(t.certified(eps) & right)) if t.proves(eps) else None
            rates = Rate(robust_accuracy(right, robust)), Rate(robust_inaccuracy(right, robust))
            rows.append((name, eps, share(right), *rates, proven))
    columns = ("network", "eps", "natural", "robust", "robust inaccuracy", "certified right")
    return Table("The networks alone, all images", columns, tuple(rows), within=("network",))


def split_table(tables: Tables, points: Mapping[str, Candidates]) -> Table:
    """Chosen on one half, reported on the other, means over random halves."""
    cuts = halves_at_random(tables[CORE].samples)
    rows = []
    for eps, mechanisms in points.items():
        core = core_of(tables[CORE], eps)
        for loss in LOSSES:
            for name, found in mechanisms.items():
                rates = rates_of_splits(found, core, cuts, loss)
                natural, lost, sound = (np.array(kind) for kind in zip(*rates, strict=True))
                cells = (_spread(natural), Points(float(lost.mean())), _spread(sound))
                rows.append((eps, Points(-loss), name, *cells))
    columns = (
        "eps",
        Column("allowed loss", "points"),
        "composition",
        Column("natural", "%"),
        Column("against the core", "points"),
        Column("sound", "%"),
    )
    return Table(
        f"Chosen on one half, reported on the other: mean of {SPLITS} splits",
        columns,
        tuple(rows),
        caption="± is the standard deviation over the splits, which share their images: it tells "
        "nothing apart.",
        within=("eps", "allowed loss"),
    )


def _spread(values: Values) -> Spread:
    return Spread(float(values.mean()), float(values.std()))


def selection_table(tables: Tables) -> Table:
    """Selection networks as ACE reports them: selected everywhere in the ball, and how well."""
    rows = []
    for model in (ROBUST, TRUNK):
        for eps in EPS:
            stage = stage_at(tables, "selection network", model, eps, 0.0)
            sure, robust = stage.surely_selects, stage.robust & stage.accurate
            right = Rate(1 - selective_risk(robust, sure)) if sure.any() else None
            rows.append((model, eps, Rate(rate(stage.selects)), Rate(rate(sure)), right))
    return Table(
        "Selection networks at threshold 0",
        ("classifier", "eps", "selected", "certainly selected", "right and robust among those"),
        tuple(rows),
        within=("classifier",),
        caption="Certainly selected: proven by interval bounds for the whole ball.",
    )


def paper_table(tables: Tables) -> Table:
    """The indicator composition by both accountings."""
    rows: list[tuple[Cell, ...]] = []
    for eps in EPS:
        for model in pool(tables.networks):
            accounts = accounts_of(tables, CORE, eps, model)
            masks = (mask for a in accounts for mask in (a.natural, a.robust))
            rows.append((eps, model, *(Rate(rate(mask)) for mask in masks)))
    return Table(
        "The indicator with each network: the paper's accounting and the sound one",
        ("eps", "stage", "natural (paper)", "robust (paper)", "natural", "sound"),
        tuple(rows),
        within=("eps",),
    )
