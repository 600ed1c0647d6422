"""Tables of the comparison, from measured samples and attacked rows alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from selectors_attack import CORE, LOSS, ROBUST, TRUNK, Deployed, pool, results
from selectors_points import (
    MECHANISMS,
    Mask,
    Point,
    Tables,
    best,
    compose,
    core_of,
    paper_of,
    sweep,
    sweep_pairs,
    verdict,
)

from recuse.analysis.intervals import paired_difference, wilson_of
from recuse.analysis.metrics import rate, robust_accuracy, robust_inaccuracy, selective_risk
from recuse.report.page import Column, Points, Rate, Spread, Table

SPLITS = 20
LOSSES = (0.0, LOSS)
EPS = ("1/255", "2/255")


@dataclass(frozen=True)
class Attacked:
    """One composition under the adversary, its rows aligned with the sample tables.

    Attributes:
        entry: What was attacked.
        eps: Radius.
        rows: Index into the sample tables of each attacked row.
        frame: What came of it.
    """

    entry: Deployed
    eps: str
    rows: npt.NDArray[np.int64]
    frame: pl.DataFrame

    @property
    def robust(self) -> Mask:
        """Attacked robust accuracy, per row."""
        return verdict(self.frame, "attacked")

    @property
    def sound(self) -> Mask | None:
        """Sound bound on the same rows, where there is one."""
        return None if self.entry.point is None else self.entry.point.sound[self.rows]

    @property
    def violations(self) -> Mask:
        """Rows that the bound calls safe and the adversary broke."""
        return np.zeros(len(self.rows), bool) if self.sound is None else self.sound & ~self.robust


def attacked(
    todo: Mapping[str, list[Deployed]], tables: Tables, folder: Path
) -> Iterator[Attacked]:
    """Everything that was attacked."""
    index = {name: row for row, name in enumerate(tables[CORE]["sample_id"].to_list())}
    frames = [
        (eps, entry, frame)
        for eps, entries in todo.items()
        for entry in entries
        if (frame := results(entry, eps, folder)) is not None
    ]
    # All rows of the table are of the same images, also while some have more than others.
    common = min(len(frame) for _, _, frame in frames)
    for eps, entry, frame in frames:
        rows = np.array([index[i] for i in frame["sample_id"].head(common).to_list()])
        yield Attacked(entry, eps, rows, frame.head(common))


def share(mask: Mask) -> Rate:
    """A rate with its Wilson interval."""
    found = wilson_of(mask)
    return Rate(found.estimate, found.low, found.high)


def difference(first: Mask, second: Mask) -> Points:
    """A paired difference with its bootstrap interval."""
    found = paired_difference(first, second)
    return Points(found.estimate, found.low, found.high)


def adversary_table(found: list[Attacked]) -> Table:
    """Every mechanism at its operating point, as deployed and under the adversary."""
    columns = (
        "eps",
        Column("mechanism", meaning="How the stages select; the core answers the rest"),
        Column("setting", meaning="Classifier and threshold of each stage"),
        Column("natural", "%", "Right answers without an attack", best="high"),
        Column("sound", "%", "Right in the whole ball, by the sound accounting", best="high"),
        Column(
            "attacked", "%", "Right answers the adaptive adversary could not change", best="high"
        ),
        Column("gap", "points", "Attacked minus sound"),
        Column("violations", "", "Rows the sound bound calls safe that the adversary broke"),
        Column("core asked", "%", "Inputs that reach the core"),
        Column("... attacked", "%", "Inputs that an attacker can bring to the core"),
        Column("passes", "", "Network passes per input", decimals=1),
    )
    rows = []
    for a in found:
        sound = a.sound
        rows.append(
            (
                a.eps,
                a.entry.name,
                a.entry.setting,
                share(verdict(a.frame, "correct")),
                None if sound is None else share(sound),
                share(a.robust),
                None if sound is None else difference(a.robust, sound),
                None if sound is None else int(a.violations.sum()),
                Rate(rate(verdict(a.frame, "asks_core"))),
                Rate(rate(verdict(a.frame, "asks_core_attacked"))),
                float(a.frame["cost"].mean() or 0.0),
            )
        )
    return Table(
        "Mechanisms at equal natural loss, under the adaptive adversary",
        columns,
        tuple(rows),
        caption="Thresholds and weights are chosen on every other image for the best sound bound "
        "(where there is one, else the most permissive) at a natural loss of at most one point "
        "there; the indicator has none to choose. All columns are of the attacked images alone. "
        "The passes of a selection network are those of the classifier and the core; the network "
        "that selects, one more pass per image, was not counted when this was measured.",
        within=("eps",),
    )


def difference_table(found: list[Attacked]) -> Table:
    """Paired differences in attacked accuracy against each mechanism."""
    rows = []
    for eps in dict.fromkeys(a.eps for a in found):
        here = {a.entry.name: a for a in found if a.eps == eps}
        ours = here.get("robust margin")
        for name, other in here.items():
            if ours is not None and name != "robust margin":
                common = min(len(ours.rows), len(other.rows))
                pair = [verdict(a.frame, "correct")[:common] for a in (ours, other)]
                safe = [a.robust[:common] for a in (ours, other)]
                rows.append((eps, name, difference(*pair), difference(*safe)))
    return Table(
        "Robust margin against the others, paired on the same images",
        ("eps", "against", Column("natural", "points"), Column("attacked", "points")),
        tuple(rows),
        caption="Positive: the robust margin is better. 95 % intervals by paired bootstrap.",
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
            rows.append(
                (
                    name,
                    eps,
                    share(right),
                    Rate(robust_accuracy(right, robust)),
                    Rate(robust_inaccuracy(right, robust)),
                    Rate(rate(verdict(t, certified) & right)) if certified in t.columns else None,
                )
            )
    columns = ("network", "eps", "natural", "robust", "robust and wrong", "certified right")
    return Table("The networks alone", columns, tuple(rows), within=("network",))


def split_table(tables: Tables, candidates: Mapping[str, Mapping[str, list[Point]]]) -> Table:
    """Chosen on one half, reported on the other, means over random halves."""
    rows = []
    generator = np.random.default_rng(0)
    count = len(tables[CORE])
    cuts = [generator.permutation(count) < count // 2 for _ in range(SPLITS)]
    for eps, mechanisms in candidates.items():
        core = core_of(tables[CORE], eps)
        for loss in LOSSES:
            for name, points in mechanisms.items():
                picked = [(best(points, cut, core, loss=loss), ~cut) for cut in cuts]
                natural, sound = (
                    [float(getattr(p, k)[rest].mean()) for p, rest in picked if p is not None]
                    for k in ("natural", "sound")
                )
                lost = [
                    float(p.natural[rest].mean() - core.accurate[rest].mean())
                    for p, rest in picked
                    if p is not None
                ]
                rows.append(
                    (
                        eps,
                        Points(-loss),
                        name,
                        _mean(natural),
                        Points(float(np.mean(lost))),
                        _mean(sound),
                    )
                )
    return Table(
        "Chosen on one half, reported on the other: mean of 20 splits",
        (
            "eps",
            Column("allowed loss", "points"),
            "composition",
            Column("natural", "%"),
            Column("against the core", "points"),
            Column("sound", "%", best="high"),
        ),
        tuple(rows),
        within=("eps", "allowed loss"),
    )


def _mean(values: list[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values)))


def candidates_at(tables: Tables, eps: str) -> dict[str, list[Point]]:
    """Every setting of every mechanism that the sound accounting can judge."""
    singles = sweep(tables, CORE, eps, "robust margin", pool())
    return {
        "indicator": [*sweep(tables, CORE, eps, "indicator", pool()), _core_only(tables, eps)],
        "robust margin": [*singles, _core_only(tables, eps)],
        "cascade of two": [
            *sweep_pairs(tables, CORE, eps, "robust margin", pool()),
            *singles,
            _core_only(tables, eps),
        ],
        "softmax over the ball": [
            *sweep(tables, CORE, eps, "softmax over the ball", pool()),
            _core_only(tables, eps),
        ],
        "softmax response": [
            *sweep(tables, CORE, eps, "softmax response", pool()),
            _core_only(tables, eps),
        ],
        "selection network": [
            *sweep(tables, CORE, eps, "selection network", [ROBUST]),
            _core_only(tables, eps),
        ],
        "selection network (ACE-IBP)": [
            *sweep(tables, CORE, eps, "selection network", [TRUNK]),
            _core_only(tables, eps),
        ],
    }


def _core_only(tables: Tables, eps: str) -> Point:
    return compose(tables, CORE, eps, "indicator", [])


def selection_table(tables: Tables) -> Table:
    """Selection networks as ACE reports them: selected everywhere in the ball, and how well."""
    rows = []
    for model in (ROBUST, TRUNK):
        for eps in ("1/255", "2/255"):
            stage = MECHANISMS["selection network"](tables, model, eps, 0.0)
            sure, robust = stage.surely_selects, stage.robust & stage.accurate
            rows.append(
                (
                    model,
                    eps,
                    Rate(rate(stage.selects)),
                    Rate(rate(sure)),
                    Rate(1 - selective_risk(robust, sure)) if sure.any() else None,
                )
            )
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
            rows.append(
                (
                    eps,
                    model,
                    Rate(rate(paper.natural)),
                    Rate(rate(paper.robust)),
                    Rate(rate(sound.natural)),
                    Rate(rate(sound.sound)),
                )
            )
    return Table(
        "The indicator with each network: the paper's accounting and the sound one",
        ("eps", "stage", "natural (paper)", "robust (paper)", "natural", "sound"),
        tuple(rows),
        within=("eps",),
    )
