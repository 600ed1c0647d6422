"""Figures of the certified study: what is certified at each radius, and what it costs."""

from collections.abc import Mapping

import altair as alt
import polars as pl

from recuse.analysis.certified import Panel, curve
from recuse.records.schema import Record
from recuse.report.charts.style import HUES, NEUTRAL
from recuse.report.page.blocks import Figure

# The weight of CRA runs from light, close to Gaussian training, to dark.
COLOURS = {
    "base": NEUTRAL,
    "gaussian": HUES[4],
    "cra 1": "#A9CBEA",
    "cra 0.3": "#74A9DB",
    "cra 0.1": "#4477AA",
    "cra 0.03": "#2A5588",
    "cra 0.01": "#12305A",
}
NETWORKS = {"small": "ConvNet", "resnet20": "ResNet-20"}
BALLS = ["ε = σ", "2ε = 2σ"]


def title_of(panel: Panel) -> str:
    """Network and noise level."""
    name = f"{NETWORKS.get(panel.base, panel.base)}, σ = {panel.sigma:g}"
    return f"{name}, trained again" if panel.again else name


def figures(found: Mapping[Panel, Mapping[str, Record]]) -> tuple[Figure, Figure]:
    """Certified accuracy against the radius, and certified right against certified wrong."""
    rows = pl.concat(
        curve(record).with_columns(
            panel=pl.lit(title_of(panel)), training=pl.lit(training), sigma=pl.lit(panel.sigma)
        )
        for panel, records in found.items()
        for training, record in records.items()
    )
    accuracy = _facets(
        alt.Chart(alt.InlineData(rows.to_dicts()))
        .mark_line(strokeWidth=1.5)
        .encode(
            alt.X("radius:Q", title="certified L2 radius"),
            alt.Y("right:Q", title="certified and right (%)"),
            _colour(rows),
        )
    )
    ratio = (pl.col("radius") / pl.col("sigma")).round(3)
    marked = rows.filter(ratio.is_in([1.0, 2.0])).with_columns(
        ball=pl.when(ratio == 1).then(pl.lit(BALLS[0])).otherwise(pl.lit(BALLS[1]))
    )
    cost = _facets(
        alt.Chart(alt.InlineData(marked.to_dicts()))
        .mark_point(filled=True, size=60)
        .encode(
            alt.X("wrong:Q", title="certified and wrong (%)"),
            alt.Y("right:Q", title="certified and right (%)", scale=alt.Scale(zero=False)),
            _colour(rows),
            alt.Shape("ball:N", title=None, sort=BALLS),
        )
    ).resolve_scale(y="independent")
    return (
        Figure("certified-accuracy", "Certified accuracy against the radius", accuracy),
        Figure("robust-accuracy-against-inaccuracy", "Certified right and wrong", cost),
    )


def _facets(chart: alt.Chart) -> alt.FacetChart:
    faceted: alt.FacetChart = (
        chart.properties(width=230, height=190)
        .facet(facet=alt.Facet("panel:N", title=None), columns=2)
        .resolve_scale(x="independent")
    )
    return faceted


def _colour(rows: pl.DataFrame) -> alt.Color:
    shown = [name for name in COLOURS if name in set(rows["training"])]
    scale = alt.Scale(domain=shown, range=[COLOURS[name] for name in shown])
    return alt.Color("training:N", title=None, scale=scale)


__all__ = ["figures", "title_of"]
