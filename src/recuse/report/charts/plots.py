"""The figures of a report, from plain marks: the forms of the paper's Figures 2, 3 and 4."""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from recuse.report.charts.marks import Axes, Chart, Guide, Mark, scatter
from recuse.report.charts.style import FRAME, ON_STRONG, RING, SPLITS

# What the marks of the Figure 4 form are, and how each is drawn.
CORE = "core"
SINGLE = "single model"
SOUND = "composition, sound"
PAPER = "composition, paper's count"
ATTACKED = "composition, attacked"
KIND_SHAPES = {
    CORE: "diamond",
    SINGLE: "triangle-up",
    SOUND: "circle",
    PAPER: RING,
    ATTACKED: FRAME,
}

_BAR = 20
_WIDE = 600
_NARROWEST = 4.5
_STRONG = ("robust and right", "robust and wrong")


def robust_against_inaccuracy(marks: Sequence[Mark]) -> Chart:
    """Robust accuracy over robust inaccuracy (Figure 2 form); better is up and to the left."""
    return scatter(marks, Axes("robust inaccuracy", "robust accuracy", series_title="loss"))


def selective_accuracy(marks: Sequence[Mark]) -> Chart:
    """Selective robust accuracy over robust selection (Figure 3 form); better is up and right."""
    axes = Axes(
        "robust selection", "robust accuracy of the selected", series_title="loss and selector"
    )
    return scatter(marks, axes)


def natural_against_robust(marks: Sequence[Mark]) -> Chart:
    """Robust over natural accuracy of single and composed models (Figure 4 form).

    A core far below everything else is drawn as a line at its natural accuracy, so that the
    others keep room to differ; the line says how robust the core is.

    Args:
        marks: Of the kinds :data:`CORE`, :data:`SINGLE`, :data:`SOUND`, :data:`PAPER` and
            :data:`ATTACKED`; better is up and to the right.
    """
    axes = Axes(
        "natural accuracy",
        "robust accuracy",
        width=360,
        height=300,
        series_title="loss",
        kind_title="model",
        shapes=KIND_SHAPES,
    )
    far = {id(m) for m in marks if _far_below(m, marks)}
    # Panels keep the order of all marks, whether or not their core is drawn as a line.
    order = tuple(dict.fromkeys(m.panel for m in marks))
    lines = [Guide(m.x, f"core ↓ {100 * m.y:.1f}", m.panel) for m in marks if id(m) in far]
    rest = sorted((m for m in marks if id(m) not in far), key=lambda m: order.index(m.panel))
    return scatter(rest, axes, lines)


def _far_below(mark: Mark, marks: Sequence[Mark]) -> bool:
    others = [m.y for m in marks if m.panel == mark.panel and m.kind != CORE]
    if mark.kind != CORE or not others:
        return False
    return min(others) - mark.y > max(0.1, 2 * (max(others) - min(others)))


@dataclass(frozen=True)
class SplitBar:
    """The four splits of one model, shares that sum to 1.

    Attributes:
        model: Name of the bar.
        panel: Bars of one panel are compared, for example one radius.
        shares: Share of each of :data:`recuse.report.charts.style.SPLITS`, in that order.
    """

    model: str
    panel: str
    shares: tuple[float, float, float, float]


def split_bars(bars: Sequence[SplitBar]) -> alt.TopLevelMixin:
    """The four splits as stacked bars; the dangerous part, robustly inaccurate, ends each bar."""
    panels = list(dict.fromkeys(bar.panel for bar in bars))
    charts = [_split_panel([bar for bar in bars if bar.panel == p], p) for p in panels]
    return charts[0] if len(charts) == 1 else alt.vconcat(*charts, spacing=26)


def _split_panel(bars: list[SplitBar], title: str) -> Chart:
    pieces = [
        (bar.model, name, 100 * sum(bar.shares[:place], start=0.0), 100 * share)
        for bar in bars
        for place, (name, share) in enumerate(zip(SPLITS, bar.shares, strict=True))
    ]
    rows = [
        {
            "model": model,
            "split": name,
            "from": start,
            "to": start + share,
            "share": f"{share:.1f} %",
        }
        for model, name, start, share in pieces
    ]
    colour = alt.Color(
        "split:N",
        title=None,
        scale=alt.Scale(domain=list(SPLITS), range=list(SPLITS.values())),
        legend=alt.Legend(orient="top", symbolType="square", columns=4),
    )
    axis = alt.Axis(tickCount=5, grid=False)
    title_x = "share of the samples (%)"
    x = alt.X("from:Q", title=title_x, scale=alt.Scale(domain=[0, 100]), axis=axis)
    y = alt.Y("model:N", title=None, sort=[bar.model for bar in bars])
    drawn = alt.Chart(alt.InlineData(rows)).mark_bar(size=_BAR - 4)
    tooltip = ["model:N", "split:N", "share:N"]
    chart: Chart = alt.layer(
        drawn.encode(x, y, colour, x2="to:Q", tooltip=tooltip), *_words(pieces, y)
    ).properties(width=_WIDE, height=alt.Step(_BAR + 2), **({"title": title} if title else {}))
    return chart


def _words(pieces: Sequence[tuple[str, str, float, float]], y: alt.Y) -> list[alt.Chart]:
    """The share in each piece wide enough for it: white on strong colours, ink on pale ones."""
    layers = []
    for strong in (True, False):
        rows = [
            {"model": model, "at": start + share / 2, "text": f"{share:.1f}"}
            for model, name, start, share in pieces
            if share >= _NARROWEST and (name in _STRONG) == strong
        ]
        base = alt.Chart(alt.InlineData(rows))
        text = base.mark_text(color=ON_STRONG) if strong else base.mark_text()
        layers += [text.encode(alt.X("at:Q"), y, text="text:N")] if rows else []
    return layers
