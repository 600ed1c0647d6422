"""One model's verdicts as numpy arrays, and the checks that make models comparable.

A formula of this wing takes boolean arrays with one entry per sample. This file is the only
place where a record's columns become such arrays, so that every missing column, unjudged
radius or differing sample is refused in one sentence, in one place.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from recuse.analysis.loss_names import loss_name
from recuse.errors import RecordError
from recuse.radius import format_radius, parse_radius
from recuse.records.schema import Record, RecordMeta, radius_column, robust_columns

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]
# What a verdict rests on: an attack found nothing, or a proof.
Kind = Literal["robust", "certified"]
_BOUNDED = "bounds on a selection network's score stand beside it, as recuse run selectors does"
_MARGINS = "recuse evaluate --margins makes it, at every --threat"
# What makes a column that is missing.
_MAKERS = dict.fromkeys(("score", "least_score", "largest_score"), _BOUNDED)
_MAKERS |= dict.fromkeys(("margin", "entropy"), _MARGINS)


@dataclass(frozen=True, eq=False)
class Verdicts:
    """A record's columns as arrays without nulls; asking for what was not judged is refused.

    Attributes:
        meta: What was measured.
        frame: One row per sample, in the order of ``sample_id``.
        attacks: Of every record of all these samples whose verdicts are in here; empty where
            there is one alone.
        run: Name of the run folder that holds the record; empty where that plays no part.
    """

    meta: RecordMeta
    frame: pl.DataFrame
    attacks: tuple[RecordMeta, ...] = ()
    run: str = ""

    @property
    def role(self) -> str:
        """``core``, ``robust``, ``standard``, ...; empty where the record does not say."""
        return str(self.meta.tags.get("role", ""))

    @property
    def loss(self) -> str:
        """The loss it was trained with, as figures write it."""
        return loss_name(str(self.meta.tags.get("loss", "") or self.role or "model"))

    @property
    def short(self) -> str:
        """Loss and what varies, for a label in a figure: ``ERA β=0.1``."""
        beta = self.tag("beta")
        return f"{self.loss} β={beta}" if beta else self.loss

    def tag(self, name: str) -> str:
        """A tag as text, floats as short as they are; empty where absent."""
        value = self.meta.tags.get(name)
        if value is None:
            return ""
        return f"{value:g}" if isinstance(value, float) else str(value)

    @property
    def met(self) -> tuple[RecordMeta, ...]:
        """What was measured by each attack that met this network."""
        return self.attacks or (self.meta,)

    @property
    def ids(self) -> pl.Series:
        """Sample ids, in row order."""
        return self.frame["sample_id"]

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.frame.height

    @property
    def labelled(self) -> bool:
        """Whether metrics that need the true class can be computed."""
        return "accurate" in self.frame.columns

    def radii(self, kind: str = "robust") -> list[str]:
        """Radii judged for ``kind``, ascending, as canonical text."""
        return [name.partition("@")[2] for name in robust_columns(self.frame, kind)]

    def has(self, kind: str, radius: str | float) -> bool:
        """Whether ``kind`` was judged at ``radius``."""
        return radius_column(kind, radius) in self.frame.columns

    def accurate(self) -> Mask:
        """F(x) = y.

        Raises:
            RecordError: The record has no labels.
        """
        return self._mask("accurate", "only label-free metrics exist for it")

    def robust(self, radius: str | float) -> Mask:
        """A search found no adversarial point within ``radius``; what is not judged does not count.

        Raises:
            RecordError: The radius was not asked, or not of every sample.
        """
        return np.asarray(self._verdict(radius).fill_null(False), dtype=np.bool_)

    def broken(self, radius: str | float) -> Mask:
        """An adversarial point was found within ``radius``.

        Raises:
            RecordError: As for :meth:`robust`.
        """
        return np.asarray(~self._verdict(radius).fill_null(True), dtype=np.bool_)

    def not_judged(self, radius: str | float) -> Mask:
        """Nothing was found within ``radius``, by a search that had no usable gradient.

        Raises:
            RecordError: As for :meth:`robust`.
        """
        return np.asarray(self._verdict(radius).is_null(), dtype=np.bool_)

    def certified(self, radius: str | float) -> Mask:
        """The answer is proven constant on the ball of ``radius``, and it is an answer.

        Where radii were listed, one that is not among them was not asked: that says nothing.

        Raises:
            RecordError: The record holds no certificates for this radius.
        """
        name = radius_column("certified", radius)
        if not self.proves(radius):
            raise RecordError(
                f"{self._where} has no column {name!r}; certified: {self._known('certified')}"
            )
        if name in self.frame.columns:
            return self._mask(name)
        answered = self.frame["prediction"].is_not_null().to_numpy()
        return np.asarray(answered & (self.values("radius") >= parse_radius(radius)))

    def proves(self, radius: str | float) -> bool:
        """Whether the record says what is certified at ``radius``."""
        if listed := self.radii("certified"):
            return format_radius(parse_radius(radius)) in listed
        return "radius" in self.frame.columns

    def stable(self, kind: Kind, radius: str | float) -> Mask:
        """:meth:`robust` or :meth:`certified`, for a radius that was judged.

        Raises:
            RecordError: The radius was not judged, or not for every sample.
        """
        return self.robust(radius) if kind == "robust" else self.certified(radius)

    def selected(self) -> Mask:
        """The selector of its own accepted x.

        Raises:
            RecordError: The record has no selector of its own.
        """
        return self._mask("selected")

    def selected_robust(self, radius: str | float) -> Mask:
        """... and no attack within ``radius`` made it reject.

        Raises:
            RecordError: The radius was not judged.
        """
        return self._mask(radius_column("selected_robust", radius))

    def confidence(self) -> Values:
        """Softmax of the predicted class at x.

        Raises:
            RecordError: The record has no confidences.
        """
        return self.values("confidence")

    def adv_confidence(self, radius: str | float) -> Values:
        """Largest softmax at the point that the confidence attack found within ``radius``.

        Raises:
            RecordError: The radius was not attacked for confidence.
        """
        return self.values(radius_column("adv_confidence", radius))

    def searched(self, kind: str, radius: str | float) -> Values:
        """What a search or bounds found within ``radius``; NaN where nothing was searched.

        Args:
            kind: ``worst_margin``, ``stable_confidence``, ... as in the records.
            radius: Of the ball.

        Raises:
            RecordError: The record does not have it.
        """
        if not self.has(kind, radius):
            raise RecordError(
                f"{self._where} has no column {radius_column(kind, radius)!r}; "
                + _MAKERS.get(kind, _MARGINS)
            )
        column = self.frame[radius_column(kind, radius)]
        return column.fill_null(float("nan")).to_numpy().astype(np.float64)

    def values(self, column: str) -> Values:
        """A numeric column.

        Raises:
            RecordError: Absent, or null for some sample.
        """
        return self._full(column, _MAKERS.get(column, "")).to_numpy().astype(np.float64)

    def _verdict(self, radius: str | float) -> pl.Series:
        """A ``robust@R`` column, null only where the record says that it could not be judged."""
        column = radius_column("robust", radius)
        judged = column in self.frame.columns
        series = self._column(column, "" if judged else f"judged: {self._known('robust')}")
        searched = series
        if "flat" in self.frame.columns:
            searched = series.filter(~self.frame["flat"].fill_null(False))
        self._refuse_gaps(column, searched)
        return series

    def _mask(self, column: str, hint: str = "") -> Mask:
        return np.asarray(self._full(column, hint).to_numpy(), dtype=np.bool_)

    def _full(self, column: str, hint: str) -> pl.Series:
        series = self._column(column, hint)
        self._refuse_gaps(column, series)
        return series

    def _column(self, column: str, hint: str) -> pl.Series:
        if column not in self.frame.columns:
            raise RecordError(
                f"{self._where} has no column {column!r}" + (f"; {hint}" if hint else "")
            )
        return self.frame[column]

    def _refuse_gaps(self, column: str, series: pl.Series) -> None:
        if nulls := series.null_count():
            raise RecordError(f"{self._where}: column {column!r} is missing for {nulls} samples")

    @property
    def _where(self) -> str:
        return f"record of {self.meta.model!r} on {self.meta.dataset}"

    def _known(self, kind: str) -> str:
        return ", ".join(self.radii(kind)) or "no radius"


def verdicts(record: Record, run: str = "") -> Verdicts:
    """A record's verdicts; what a search for the worst margin broke is broken."""
    return Verdicts(record.meta, _searched_too(record.frame), run=run)


def _searched_too(frame: pl.DataFrame) -> pl.DataFrame:
    """Verdicts without those that another class's margin within the radius, or a smaller, refutes.

    The attack of the verdicts and the searches of ``evaluate --margins`` are different ones. Older
    records hold margins of the true class alone, which are the answer's where that is right.
    """
    answered = {"stable_margin": pl.lit(True)}
    if "accurate" in frame.columns:
        answered["worst_margin"] = pl.col("accurate")
    lost: dict[float, list[pl.Expr]] = {}
    for kind, known in answered.items():
        for name in robust_columns(frame, kind):
            radius = parse_radius(name.partition("@")[2])
            lost.setdefault(radius, []).append((pl.col(name) < 0) & known)
    columns = []
    for name in robust_columns(frame) if lost else ():
        own = parse_radius(name.partition("@")[2])
        within = [column for size, found in lost.items() if size <= own for column in found]
        if within:
            broken = pl.any_horizontal(within)
            columns.append(pl.when(broken).then(False).otherwise(pl.col(name)).alias(name))
    return frame.with_columns(columns) if columns else frame


def add_radii(first: str | float, second: str | float) -> str:
    """Sum of two radii as canonical text, exact where both are fractions or decimals.

    >>> add_radii("1/255", "1/255"), add_radii("0.1", "0.2")
    ('2/255', '0.3')
    """
    if isinstance(first, str) and isinstance(second, str):
        parse_radius(first), parse_radius(second)
        return format_radius(float(Fraction(first.strip()) + Fraction(second.strip())))
    return format_radius(parse_radius(first) + parse_radius(second))
