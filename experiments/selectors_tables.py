"""Tables of the comparison, from measured samples and attacked rows alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from selectors_points import (
    MECHANISMS,
    Mask,
    Point,
    Tables,
    best_on,
    column,
    compose,
    core_of,
    paper_of,
    stacked,
    sweep,
    verdict,
)
from selectors_settings import CORE, LOSS, ROBUST, TRUNK, Candidates, Setting, halves, pool

from recuse.analysis.accounting import Core
from recuse.analysis.intervals import paired_difference, wilson_of
from recuse.analysis.metrics import rate, robust_accuracy, robust_inaccuracy, selective_risk
from recuse.report.page.blocks import Column, Points, Rate, Spread, Table

SPLITS = 20
LOSSES = (0.0, LOSS)
# What still counts as keeping the core's natural accuracy, on the choosing half.
NEAR = 0.03


@dataclass(frozen=True)
class Attacked:
    """One composition under the adversary, its rows aligned with the sample tables.

    Attributes:
        setting: What was attacked.
        rows: Index into the sample tables of each attacked row.
        frame: What came of it.
        near: It keeps the core's natural accuracy up to ``NEAR`` on the choosing half.
    """

    setting: Setting
    rows: npt.NDArray[np.int64]
    frame: pl.DataFrame
    near: bool

    @property
    def natural(self) -> Mask:
        """Right without an attack, per row."""
        return verdict(self.frame, "correct")

    @property
    def robust(self) -> Mask:
        """Right, and no adversary changed that, per row."""
        left = verdict(self.frame, "attacked")
        point = self.setting.point
        # Of a network alone every attack that ever met it counts.
        return left & point.sound[self.rows] if point.mechanism == "alone" else left

    @property
    def promised(self) -> Mask | None:
        """What the sound accounting promises, before the adversary is asked."""
        sound = self.setting.point.sound
        return None if sound is None else sound[self.rows]

    @property
    def sound(self) -> Mask | None:
        """The promise, less what an adversary has refuted."""
        return None if self.promised is None else self.promised & self.robust

    @property
    def violations(self) -> int:
        """Rows that the bound calls safe and an adversary broke."""
        left = verdict(self.frame, "attacked")
        return 0 if self.promised is None else int((self.promised & ~left).sum())


def attacked(settings: Sequence[Setting], tables: Tables, rows: pl.DataFrame) -> list[Attacked]:
    """Everything that was attacked."""
    index = {name: row for row, name in enumerate(tables[CORE]["sample_id"].to_list())}
    chosen_on, _ = halves(len(index))
    least = verdict(tables[CORE], "accurate")[chosen_on].mean() - NEAR
    found = []
    for setting in settings:
        frame = rows.filter(eps=setting.eps, mechanism=setting.name, setting=setting.words).sort(
            "sample_id"
        )
        where = np.array([index[name] for name in frame["sample_id"].to_list()])
        near = bool(setting.point.natural[chosen_on].mean() >= least)
        found.append(Attacked(setting, where, frame, near))
    return found


def share(mask: Mask) -> Rate:
    """A rate with its Wilson interval."""
    found = wilson_of(mask)
    return Rate(found.estimate, found.low, found.high)


def difference(first: Mask, second: Mask) -> Points:
    """A paired difference with its bootstrap interval."""
    found = paired_difference(first, second)
    return Points(found.estimate, found.low, found.high)


def adversary_table(found: Sequence[Attacked]) -> Table:
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


def core_share(found: Attacked, name: str) -> Rate | None:
    """Share of the inputs that reach the core, for what has stages in front of one."""
    return Rate(rate(verdict(found.frame, name))) if found.setting.point.models else None


def leader(found: Sequence[Attacked]) -> Attacked:
    """The highest sound bound on the choosing half among those near the core's accuracy."""
    chosen_on, _ = halves(len(found[0].setting.point.natural))

    def promised(a: Attacked) -> float:
        return (
            -1.0
            if a.setting.point.sound is None
            else float(a.setting.point.sound[chosen_on].mean())
        )

    return max((a for a in found if a.near), key=promised)


def difference_table(found: Sequence[Attacked]) -> Table:
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
    for name in (CORE, *pool(), TRUNK):
        t = tables[name]
        right = verdict(t, "accurate")
        for eps in ("1/255", "2/255"):
            robust = verdict(t, f"robust@{eps}")
            certified = f"certified@{eps}"
            proven = Rate(rate(verdict(t, certified) & right)) if certified in t.columns else None
            rates = Rate(robust_accuracy(right, robust)), Rate(robust_inaccuracy(right, robust))
            rows.append((name, eps, share(right), *rates, proven))
    columns = ("network", "eps", "natural", "robust", "robust and wrong", "certified right")
    return Table("The networks alone, all images", columns, tuple(rows), within=("network",))


def reachable(tables: Tables, eps: str, thresholds: Candidates) -> Candidates:
    """Every setting that the sound accounting can judge; the core alone is one of each."""
    core = compose(tables, CORE, eps, "indicator", [])
    found = {
        "indicator": sweep(tables, CORE, eps, "indicator", pool()),
        **thresholds,
        "softmax over the ball": sweep(tables, CORE, eps, "softmax over the ball", pool()),
    }
    return {name: [*points, core] for name, points in found.items()}


def split_table(tables: Tables, points: Mapping[str, Mapping[str, list[Point]]]) -> Table:
    """Chosen on one half, reported on the other, means over random halves."""
    generator = np.random.default_rng(0)
    count = len(tables[CORE])
    cuts = [generator.permutation(count) < count // 2 for _ in range(SPLITS)]
    rows = [
        (eps, Points(-loss), name, *split_rates(found, core_of(tables[CORE], eps), cuts, loss))
        for eps, mechanisms in points.items()
        for loss in LOSSES
        for name, found in mechanisms.items()
    ]
    columns = (
        "eps",
        Column("allowed loss", "points"),
        "composition",
        Column("natural", "%"),
        Column("against the core", "points"),
        Column("sound", "%"),
    )
    return Table(
        "Chosen on one half, reported on the other: mean of 20 splits",
        columns,
        tuple(rows),
        caption="± is the standard deviation over the splits, which share their images: it tells "
        "nothing apart.",
        within=("eps", "allowed loss"),
    )


def split_rates(
    points: list[Point], core: Core, cuts: Sequence[Mask], loss: float
) -> tuple[Spread, Points, Spread]:
    """Natural accuracy, what it loses against the core, and the sound bound."""
    natural, sound = stacked(points)
    picked = zip(best_on(natural, sound, cuts, core, loss=loss), cuts, strict=True)
    kept = [(i, ~cut) for i, cut in picked if i is not None]
    right = [float(natural[i, rest].mean()) for i, rest in kept]
    lost = [float(natural[i, rest].mean() - core.accurate[rest].mean()) for i, rest in kept]
    safe = [float(sound[i, rest].mean()) for i, rest in kept]
    return _mean(right), Points(float(np.mean(lost))), _mean(safe)


def _mean(values: list[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values)))


def selection_table(tables: Tables) -> Table:
    """Selection networks as ACE reports them: selected everywhere in the ball, and how well."""
    rows = []
    for model in (ROBUST, TRUNK):
        for eps in ("1/255", "2/255"):
            stage = MECHANISMS["selection network"](tables, model, eps, 0.0)
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
    rows = []
    for eps in ("1/255", "2/255"):
        for model in pool():
            paper = paper_of(tables, CORE, eps, model)
            sound = compose(tables, CORE, eps, "indicator", [(model, 0.0)])
            masks = (paper.natural, paper.robust, sound.natural, sound.sound)
            rows.append((eps, model, *(Rate(rate(mask)) for mask in masks)))
    return Table(
        "The indicator with each network: the paper's accounting and the sound one",
        ("eps", "stage", "natural (paper)", "robust (paper)", "natural", "sound"),
        tuple(rows),
        within=("eps",),
    )
