"""Lines: training over epochs, certified accuracy over the radius."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import altair as alt
import polars as pl

from recuse.analysis.verdicts import Mask, Values
from recuse.report.charts.marks import Chart
from recuse.report.charts.style import HUES

# Columns of a training log that are shares of the validation samples, and what they mean. A
# log also holds the terms of the loss ("natural", "robust", ...), which are no rates.
LOGGED_RATES = {
    "natural_accuracy": "natural accuracy",
    "robust_accuracy": "robust accuracy",
    "robust_inaccuracy": "robust inaccuracy",
}
_CURVE_POINTS = 240
_EPOCH_TICKS = 8
_MOST_CURVES = len(HUES)


def training_curves(logs: Mapping[str, pl.DataFrame]) -> Chart | None:
    """Validation rates over epochs, a panel a rate and a line a model; None without any rate."""
    rows = [row for model, log in logs.items() for row in _logged(model, log)]
    names = [m for m in logs if any(row["model"] == m for row in rows)]
    titles = [t for t in dict.fromkeys(LOGGED_RATES.values()) if any(t == r["rate"] for r in rows)]
    if not rows:
        return None
    panels = [
        _curve_panel([r for r in rows if r["rate"] == t and r["model"] in few], t, few)
        for few in at_most_eight(names)
        for t in titles
    ]
    grid = alt.concat(*panels, columns=len(titles), spacing=24)
    chart: Chart = grid.resolve_scale(y="independent", color=_legend(names))
    return chart


def at_most_eight(names: Sequence[str]) -> list[list[str]]:
    """Names in groups of nearly one size, of which one panel can show each: small multiples.

    >>> [len(group) for group in at_most_eight("abcdefghij")]
    [5, 5]
    """
    panels = -(-len(names) // _MOST_CURVES)
    size = -(-len(names) // max(panels, 1))
    return [list(names[at : at + size]) for at in range(0, len(names), max(size, 1))]


def _legend(names: Sequence[str]) -> Literal["shared", "independent"]:
    """One legend for all panels where these show the same curves."""
    return "shared" if len(names) <= _MOST_CURVES else "independent"


def _hues(names: list[str]) -> alt.Scale:
    return alt.Scale(domain=names, range=list(HUES[: len(names)]))


def _logged(model: str, log: pl.DataFrame) -> list[dict[str, str | float]]:
    return [
        {"model": model, "rate": title, "epoch": row["epoch"], "value": 100 * row[column]}
        for column, title in LOGGED_RATES.items()
        if column in log.columns
        for row in log.select("epoch", pl.col(column).cast(pl.Float64)).drop_nulls().to_dicts()
    ]


def _curve_panel(rows: list[dict[str, str | float]], title: str, names: list[str]) -> alt.Chart:
    last = max(int(row["epoch"]) for row in rows)
    step = -(-last // _EPOCH_TICKS)
    whole = alt.Axis(values=list(range(step, last + 1, step)), format="d", grid=False)
    panel: alt.Chart = (
        alt.Chart(alt.InlineData(rows))
        .mark_line(point=alt.OverlayMarkDef(size=18), strokeWidth=1.5)
        .encode(
            alt.X("epoch:Q", title="epoch", axis=whole),
            alt.Y("value:Q", title=f"{title} (%)", scale=alt.Scale(zero=False)),
            alt.Color("model:N", title=None, scale=_hues(names)),
            tooltip=["model:N", "epoch:Q", alt.Tooltip("value:Q", title=title, format=".2f")],
        )
        .properties(width=230, height=190)
    )
    return panel


@dataclass(frozen=True, eq=False)
class CertifiedCurve:
    """One model's certificates.

    Attributes:
        model: Name of the line.
        panel: Lines of one panel are compared, for example one norm.
        radius: Certified radius per sample.
        accurate: The certified answer is right, per sample.
    """

    model: str
    panel: str
    radius: Values
    accurate: Mask


def certified_accuracy(curves: Sequence[CertifiedCurve]) -> Chart:
    """Share of the samples that are right and certified at each radius."""
    names = list(dict.fromkeys(curve.model for curve in curves))
    panels = []
    for panel in dict.fromkeys(curve.panel for curve in curves):
        for few in at_most_eight(names):
            here = [c for c in curves if c.panel == panel and c.model in few]
            panels += [_certified_panel(here, panel, few)] if here else []
    chart: Chart = alt.concat(*panels, columns=2, spacing=28).resolve_scale(color=_legend(names))
    return chart


def _certified_panel(curves: list[CertifiedCurve], panel: str, names: list[str]) -> alt.Chart:
    last = max(float(c.radius.max(initial=0.0)) for c in curves)
    steps = [last * i / (_CURVE_POINTS - 1) for i in range(_CURVE_POINTS)]
    rows = [
        {
            "model": curve.model,
            "radius": round(radius, 5),
            "share": round(100 * float((curve.accurate & (curve.radius >= radius)).mean()), 3),
        }
        for curve in curves
        for radius in steps
    ]
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(rows))
        .mark_line(interpolate="step-after")
        .encode(
            alt.X("radius:Q", title=f"radius ({panel})"),
            alt.Y("share:Q", title="certified accuracy (%)", scale=alt.Scale(domain=[0, 100])),
            alt.Color("model:N", title=None, scale=_hues(names)),
            tooltip=["model:N", "radius:Q", alt.Tooltip("share:Q", title="certified accuracy (%)")],
        )
        .properties(width=340, height=250)
    )
    return chart
