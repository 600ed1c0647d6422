"""Scatter plots of models: one generic form behind :mod:`recuse.report.charts.plots`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import altair as alt

from recuse.report.charts.frame import Frame, span, ticks
from recuse.report.charts.labels import Box, along, place_labels
from recuse.report.charts.style import Look, looks

Chart = alt.LayerChart | alt.FacetChart | alt.ConcatChart
_TICKS = 6
_FOOT = 10.0
# Between panels, of plot area to plot area, so that rows and columns of panels line up.
_SPACING = {"column": 72, "row": 84}


@dataclass(frozen=True)
class Mark:
    """One point of a scatter plot; coordinates are shares in [0, 1], drawn in percent.

    Attributes:
        x: Horizontal share.
        y: Vertical share.
        series: What the colour says, for example the loss.
        kind: What the shape says; where all marks are of one kind the shape follows the series.
        panel: Marks of one panel share a coordinate system.
        trail: Marks of one trail are joined by a line, in ``order``; empty for none.
        order: Position along the trail, for example beta or tau.
        label: Written beside the mark where there is room.
        hover: What the hover says, name to text, besides the coordinates.
        x_interval: Confidence interval of ``x``.
        y_interval: Confidence interval of ``y``.
    """

    x: float
    y: float
    series: str
    kind: str = ""
    panel: str = ""
    trail: str = ""
    order: float = 0.0
    label: str = ""
    hover: Mapping[str, str] = field(default_factory=dict)
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Axes:
    """What the coordinates mean and how large a panel is.

    Attributes:
        x: Title of the horizontal axis, without the unit.
        y: Title of the vertical axis, without the unit.
        width: Of a panel in pixels.
        height: Of a panel in pixels.
        columns: Panels in a row.
        series_title: Title of the colour legend.
        kind_title: Title of the shape legend.
        shapes: Shape of each kind, where kinds are told apart.
    """

    x: str
    y: str
    width: int = 340
    height: int = 270
    columns: int = 2
    series_title: str = ""
    kind_title: str = ""
    shapes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Guide:
    """A dashed vertical line at a share, with words at its foot.

    Attributes:
        x: Horizontal share.
        label: What the line means.
        panel: Where it belongs.
    """

    x: float
    label: str
    panel: str = ""


def scatter(marks: Sequence[Mark], axes: Axes, guides: Sequence[Guide] = ()) -> Chart:
    """Draw marks in panels, with trails, intervals and labels.

    Marks with a NaN are left out; with no mark left the chart is empty.
    """
    drawn = [m for m in marks if math.isfinite(m.x) and math.isfinite(m.y)]
    styles = looks(m.series for m in drawn)
    panels = list(dict.fromkeys(m.panel for m in drawn))
    plot = _Plot(axes, styles, tuple(dict.fromkeys(m.kind for m in drawn)))
    charts = [
        _panel([m for m in drawn if m.panel == p], [g for g in guides if g.panel == p], p, plot)
        for p in panels or [""]
    ]
    if len(charts) == 1:
        return charts[0]
    columns = min(axes.columns, len(charts))
    grid = alt.concat(*charts, columns=columns, spacing=_SPACING, bounds="flush")
    joined: Chart = grid.resolve_scale(
        x="independent", y="independent", color="shared", shape="shared"
    )
    return joined


@dataclass(frozen=True)
class _Plot:
    """What all panels share."""

    axes: Axes
    styles: dict[str, Look]
    kinds: tuple[str, ...]


def _panel(marks: list[Mark], guides: list[Guide], title: str, plot: _Plot) -> Chart:
    axes = plot.axes
    frame = Frame(
        span([v for m in marks for v in (m.x, *(m.x_interval or ()))] + [g.x for g in guides]),
        span([v for m in marks for v in (m.y, *(m.y_interval or ()))]),
        axes.width,
        axes.height,
    )
    x = alt.X("x:Q", title=f"{axes.x} (%)", scale=_scale(frame.x), axis=_axis(frame.x))
    y = alt.Y("y:Q", title=f"{axes.y} (%)", scale=_scale(frame.y), axis=_axis(frame.y))
    colour = _colour(axes, plot.styles)
    names = list(dict.fromkeys(name for m in marks for name in m.hover))
    rows = alt.InlineData([_row(m, axes, names) for m in marks])
    points = alt.Chart(rows).mark_point(filled=True, opacity=1)
    layers = [
        *_guides(guides, frame, x, y),
        *_intervals(marks, x, y, colour),
        *_trails(marks, x, y, colour),
        points.encode(x, y, colour, _shape(plot), tooltip=_tooltip(names, axes)),
        *_names(marks, guides, frame, x, y),
    ]
    return alt.layer(*layers).properties(
        width=axes.width, height=axes.height, **({"title": title} if title else {})
    )


def _axis(domain: tuple[float, float]) -> alt.Axis:
    values = ticks(domain, _TICKS)
    digits = next(d for d in range(7) if all(round(v, d) == v for v in values))
    return alt.Axis(values=values, format=f".{digits}f")


def _scale(domain: tuple[float, float]) -> alt.Scale:
    return alt.Scale(domain=list(domain), nice=False, zero=False)


def _colour(axes: Axes, styles: dict[str, Look]) -> alt.Color:
    scale = alt.Scale(domain=list(styles), range=[look.colour for look in styles.values()])
    return alt.Color("series:N", title=axes.series_title or None, scale=scale)


def _shape(plot: _Plot) -> alt.Shape:
    axes = plot.axes
    if axes.shapes:
        shapes = {kind: shape for kind, shape in axes.shapes.items() if kind in plot.kinds}
        scale = alt.Scale(domain=list(shapes), range=list(shapes.values()))
        return alt.Shape("kind:N", title=axes.kind_title or None, scale=scale)
    styles = plot.styles
    scale = alt.Scale(domain=list(styles), range=[look.shape for look in styles.values()])
    return alt.Shape("series:N", title=axes.series_title or None, scale=scale)


def _row(mark: Mark, axes: Axes, names: list[str]) -> dict[str, Any]:
    return {
        "x": round(100 * mark.x, 4),
        "y": round(100 * mark.y, 4),
        "series": mark.series,
        "kind": mark.kind,
        **{f"hover {name}": mark.hover.get(name, "–") for name in names},
        f"hover {axes.x}": _with_interval(mark.x, mark.x_interval),
        f"hover {axes.y}": _with_interval(mark.y, mark.y_interval),
    }


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    text = f"{100 * value:.2f} %"
    if interval is None:
        return text
    return f"{text} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _tooltip(names: list[str], axes: Axes) -> list[alt.Tooltip]:
    shown = dict.fromkeys([*names, axes.x, axes.y])
    return [alt.Tooltip(field=f"hover {name}", type="nominal", title=name) for name in shown]


def _joined(marks: list[Mark]) -> list[list[Mark]]:
    """The marks of each trail, in order."""
    on_trails = sorted((m for m in marks if m.trail), key=lambda m: (m.trail, m.order))
    return [list(trail) for _, trail in groupby(on_trails, key=lambda m: m.trail)]


def _segments(
    marks: list[Mark], frame: Frame
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The lines of the trails in pixels."""
    return [
        (frame.pixel(100 * a.x, 100 * a.y), frame.pixel(100 * b.x, 100 * b.y))
        for trail in _joined(marks)
        for a, b in pairwise(trail)
    ]


def _trails(marks: list[Mark], x: alt.X, y: alt.Y, colour: alt.Color) -> list[alt.Chart]:
    rows = [
        {"x": 100 * m.x, "y": 100 * m.y, "series": m.series, "trail": m.trail, "step": step}
        for trail in _joined(marks)
        for step, m in enumerate(trail)
    ]
    if not rows:
        return []
    line = alt.Chart(alt.InlineData(rows)).mark_line(strokeWidth=1.5, opacity=0.55, clip=True)
    return [line.encode(x, y, colour, detail="trail:N", order="step:Q")]


def _intervals(marks: list[Mark], x: alt.X, y: alt.Y, colour: alt.Color) -> list[alt.Chart]:
    layers = []
    wide = [
        {
            "x": 100 * m.x_interval[0],
            "x2": 100 * m.x_interval[1],
            "y": 100 * m.y,
            "series": m.series,
        }
        for m in marks
        if m.x_interval
    ]
    tall = [
        {
            "x": 100 * m.x,
            "y": 100 * m.y_interval[0],
            "y2": 100 * m.y_interval[1],
            "series": m.series,
        }
        for m in marks
        if m.y_interval
    ]
    if wide:
        rule = alt.Chart(alt.InlineData(wide)).mark_rule(opacity=0.35, clip=True)
        layers.append(rule.encode(x, y, colour, x2="x2:Q"))
    if tall:
        rule = alt.Chart(alt.InlineData(tall)).mark_rule(opacity=0.35, clip=True)
        layers.append(rule.encode(x, y, colour, y2="y2:Q"))
    return layers


def _guides(guides: list[Guide], frame: Frame, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    if not guides:
        return []
    rows = [{"x": 100 * g.x, "y": frame.y[0], "y2": frame.y[1], "label": g.label} for g in guides]
    rule = alt.Chart(alt.InlineData(rows)).mark_rule(strokeDash=[4, 3], opacity=0.8)
    return [rule.encode(x, y, y2="y2:Q", tooltip="label:N")]


def _names(
    marks: list[Mark], guides: list[Guide], frame: Frame, x: alt.X, y: alt.Y
) -> list[alt.Chart]:
    """Labels at coordinates computed from pixel places: Vega-Lite cannot place them itself."""
    points = [frame.pixel(100 * m.x, 100 * m.y) for m in marks]
    points += [(frame.pixel(100 * g.x, 0.0)[0], frame.height - _FOOT) for g in guides]
    texts = [m.label for m in marks] + [g.label for g in guides]
    lines = [Box(x - 2, 0.0, x + 2, float(frame.height)) for x, _ in points[len(marks) :]]
    lines += [box for start, end in _segments(marks, frame) for box in along(start, end)]
    area = Box(0.0, 0.0, float(frame.width), float(frame.height))
    places = place_labels(points, texts, area, avoided=lines)
    rows = []
    for text, box in zip(texts, places, strict=True):
        if box is not None:
            across, up = frame.percent(*box.centre)
            rows.append({"x": across, "y": up, "label": text})
    if not rows:
        return []
    text_mark = alt.Chart(alt.InlineData(rows)).mark_text(align="center", baseline="middle")
    return [text_mark.encode(x, y, text="label:N")]
