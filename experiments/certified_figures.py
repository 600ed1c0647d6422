"""Figures and table of the certified study, from its records alone."""

from pathlib import Path

import altair as alt
import polars as pl

from recuse.analysis.metrics import natural_accuracy, robust_accuracy, robust_inaccuracy
from recuse.analysis.verdicts import verdicts
from recuse.records.schema import Record
from recuse.records.store import read_records, write_atomically
from recuse.report.figures import save_figure
from recuse.report.page import Figure
from recuse.report.run import write_report
from recuse.report.style import HUES, NEUTRAL

COLOURS = {
    "base": NEUTRAL,
    "gaussian": HUES[4],
    "cra 0.1": HUES[0],
    "cra 0.03": HUES[2],
    "cra 0.01": HUES[1],
}


def rates(record: Record) -> pl.DataFrame:
    """What is certified at each radius, in percent, one row a radius; radius 0 is accuracy."""
    judged, meta = verdicts(record), record.meta
    accurate = judged.accurate()
    panel = f"{meta.tags['base']}, σ = {meta.tags['sigma']:g}"
    rows = [(0.0, natural_accuracy(accurate), float("nan"), float("nan"))]
    for radius in judged.judged("certified"):
        certified = judged.certified(radius)
        right = robust_accuracy(accurate, certified)
        wrong = robust_inaccuracy(accurate, certified)
        rows.append((float(radius), right, wrong, float(certified.mean())))
    return pl.DataFrame(
        [(panel, meta.tags["phase"], r, 100 * a, 100 * b, 100 * c) for r, a, b, c in rows],
        schema=["panel", "training", "radius", "right", "wrong", "certified"],
        orient="row",
    ).with_columns(
        samples=pl.lit(judged.values("samples").mean()), sigma=pl.lit(meta.tags["sigma"])
    )


def curves(table: pl.DataFrame) -> Figure:
    """Certified accuracy and certified inaccuracy against the radius."""
    long = table.unpivot(
        ["right", "wrong"],
        index=["panel", "training", "radius"],
        variable_name="answer",
        value_name="percent",
    ).drop_nans()
    chart = (
        alt.Chart(alt.InlineData(long.to_dicts()))
        .mark_line(strokeWidth=1.5)
        .encode(
            alt.X("radius:Q", title="certified L2 radius"),
            alt.Y("percent:Q", title="certified (% of images)"),
            alt.Color("training:N", title=None, scale=_colours()),
            alt.StrokeDash("answer:N", title="and the answer is"),
        )
        .properties(width=230, height=190)
        .facet(facet=alt.Facet("panel:N", title=None), columns=2)
        .resolve_scale(x="independent")
    )
    return Figure("certified-accuracy", "Certified accuracy against the radius", chart)


def trade_off(table: pl.DataFrame) -> Figure:
    """Robust accuracy against robust inaccuracy, both certified, at eps = sigma and 2 sigma."""
    ratio = (pl.col("radius") / pl.col("sigma")).round(3)
    points = table.filter(ratio.is_in([1.0, 2.0])).with_columns(
        ball=pl.when(ratio == 1).then(pl.lit("ε = σ")).otherwise(pl.lit("2ε = 2σ"))
    )
    chart = (
        alt.Chart(alt.InlineData(points.to_dicts()))
        .mark_point(filled=True, size=60)
        .encode(
            alt.X("wrong:Q", title="certified and wrong (%)"),
            alt.Y("right:Q", title="certified and right (%)", scale=alt.Scale(zero=False)),
            alt.Color("training:N", title=None, scale=_colours()),
            alt.Shape("ball:N", title=None),
        )
        .properties(width=230, height=190)
        .facet(facet=alt.Facet("panel:N", title=None), columns=2)
        .resolve_scale(x="independent", y="independent")
    )
    return Figure("robust-accuracy-against-inaccuracy", "Certified right and wrong", chart)


def _colours() -> alt.Scale:
    return alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))


def draw(out: Path) -> None:
    """Write figures, table and report of the records below ``out``."""
    table = pl.concat([rates(record) for record in read_records(out)])
    for figure in (curves(table), trade_off(table)):
        save_figure(figure, out, ("svg", "png"))
    listed = table.filter(
        (pl.col("radius") / pl.col("sigma")).round(3).is_in([0.0, 1.0, 2.0])
    ).sort("panel", "training", "radius")
    write_atomically(out / "table.csv", listed.write_csv(float_precision=3).encode())
    write_report([out], out / "report.html")
