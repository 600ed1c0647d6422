"""Histogram of the distances between differently labelled images."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from recuse.radius import parse_radius
from recuse.report.charts.marks import Chart

KINDS = ("train-train", "test-train")


def separation_histogram(found: Mapping[str, Any]) -> Chart:
    """Share of the images by their distance to the nearest one of another class.

    Args:
        found: What ``recuse geometry separation`` keeps as JSON. Twice each radius that was held
            against the distances is marked by a line.
    """
    norm = found[KINDS[0]]["norm"]
    rows = [
        {"kind": kind, "from": low, "share": count / found[kind]["queries"]}
        for kind in KINDS
        for low, count in zip(
            found[kind]["histogram"]["edges"],
            [*found[kind]["histogram"]["counts"], 0],
            strict=True,
        )
    ]
    layers: list[alt.Chart] = [
        alt.Chart(pl.DataFrame(rows))
        .mark_area(interpolate="step-after", opacity=0.25, line=True)
        .encode(
            x=alt.X(
                "from:Q",
                title=f"{norm} distance to the nearest other class",
                scale=alt.Scale(domainMin=0),
            ),
            y=alt.Y("share:Q", title="share of images", stack=None, axis=alt.Axis(format="%")),
            color=alt.Color("kind:N", title=None, sort=list(KINDS)),
        )
    ]
    for place, text in enumerate(found[KINDS[0]]["share_within_2eps"]):
        at = alt.Chart(pl.DataFrame({"at": [2 * parse_radius(text)], "text": [f"2·{text}"]}))
        layers.append(at.mark_rule(strokeDash=[4, 3]).encode(x="at:Q"))
        label = at.mark_text(align="left", dx=4).encode(x="at:Q", text="text:N")
        layers.append(label.encode(y=alt.value(8 + 14 * place)))
    chart: Chart = alt.layer(*layers).properties(width=420, height=220)
    return chart


__all__ = ["KINDS", "separation_histogram"]
