"""Figures and table of the certified study, from its records alone."""

import json
from pathlib import Path

import altair as alt
import polars as pl

from recuse.analysis.composing import compose_records
from recuse.analysis.intervals import Interval, paired_difference, wilson_of
from recuse.analysis.metrics import natural_accuracy, robust_accuracy, robust_inaccuracy
from recuse.analysis.verdicts import Mask, verdicts
from recuse.radius import format_radius
from recuse.records.schema import Record
from recuse.records.store import read_records, write_atomically
from recuse.report.charts.style import HUES, NEUTRAL
from recuse.report.page.blocks import Figure
from recuse.report.page.figures import save_figure
from recuse.report.run.report import write_report

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


def panel_of(record: Record) -> str:
    """Network and noise level."""
    return f"{NETWORKS[record.meta.tags['base']]}, σ = {record.meta.tags['sigma']:g}"


def rates(record: Record) -> pl.DataFrame:
    """What is certified at each radius, in percent, one row a radius; radius 0 is accuracy."""
    judged, meta = verdicts(record), record.meta
    accurate = judged.accurate()
    panel = panel_of(record)
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
        ball=pl.when(ratio == 1).then(pl.lit(BALLS[0])).otherwise(pl.lit(BALLS[1]))
    )
    chart = (
        alt.Chart(alt.InlineData(points.to_dicts()))
        .mark_point(filled=True, size=60)
        .encode(
            alt.X("wrong:Q", title="certified and wrong (%)"),
            alt.Y("right:Q", title="certified and right (%)", scale=alt.Scale(zero=False)),
            alt.Color("training:N", title=None, scale=_colours()),
            alt.Shape("ball:N", title=None, sort=BALLS),
        )
        .properties(width=230, height=190)
        .facet(facet=alt.Facet("panel:N", title=None), columns=2)
        .resolve_scale(x="independent", y="independent")
    )
    return Figure("robust-accuracy-against-inaccuracy", "Certified right and wrong", chart)


def _colours() -> alt.Scale:
    return alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))


INTRODUCTION = """# Certified networks on CIFAR-10

`python experiments/certified.py` trains a ConvNet (from scratch) and a ResNet-20 (from a standard
network) under Gaussian noise, fine-tunes them by the Gaussian loss and by CRA with 16 draws an
image, and certifies {images} lossless test images: radii 0.5, 1, 1.5 and 2 σ decided jointly by the
sequential test, α = 0.001. Below ε = σ. Rates in percent of the images with 95 % Wilson
intervals; *draws* is the mean number of votes an image cost.

`records` has one row an image, `table.csv` the curves, `report.html` the report. `verified.csv` is
by `python experiments/verified_fractions.py`: what interval and linear bounds prove about networks
trained to be provable, and that PGD breaks none of it.

![certified accuracy against the radius](certified-accuracy.png)

![certified right against certified wrong](robust-accuracy-against-inaccuracy.png)
"""


def masks(record: Record) -> dict[str, Mask]:
    """What the text compares, per image; eps is sigma."""
    judged = verdicts(record)
    accurate, eps, doubled = judged.accurate(), *judged.judged("certified")[1::2]
    certified, twice = judged.certified(eps), judged.certified(doubled)
    return {
        "natural": accurate,
        "robust accuracy at ε": accurate & certified,
        "robust inaccuracy at ε": ~accurate & certified,
        "robust selection (2ε)": twice,
        "right, of those": accurate & twice,
    }


def section(panel: str, records: dict[str, Record]) -> list[str]:
    """One network and noise level as text."""
    found = {training: masks(record) for training, record in records.items()}
    headings = list(next(iter(found.values())))
    lines = [f"## {panel}", "", f"| training | {' | '.join(headings)} | draws |"]
    lines += ["|---" * (len(headings) + 2) + "|"]
    for training, kinds in found.items():
        draws = verdicts(records[training]).values("samples").mean()
        cells = [percent(wilson_of(mask)) for mask in kinds.values()]
        lines.append(f"| {training} | {' | '.join(cells)} | {draws:,.0f} |")
    if "gaussian" in found:
        lines += ["", "Against fine-tuning by the Gaussian loss, paired, points:", ""]
    for training in (name for name in found if name.startswith("cra") and "gaussian" in found):
        parts = [
            f"{kind} {percent(paired_difference(found[training][kind], other))}"
            for kind, other in found["gaussian"].items()
            if kind.endswith("at ε")
        ]
        lines.append(f"- {training}: {'; '.join(parts)}")
    return [*lines, ""]


def percent(found: Interval) -> str:
    """An estimate with its interval."""
    low, high = 100 * found.low, 100 * found.high
    return f"{100 * found.estimate:.1f} ({low:.1f} to {high:.1f})"


def compositions(records: dict[str, Record], core: Record) -> list[str]:
    """Each network before the core: what is proven of the two together."""
    eps = format_radius(next(iter(records.values())).meta.tags["sigma"])
    lines = ["In front of the standard ResNet-56, which answers what is not certified at ε:", ""]
    lines += ["| stage | natural | robust (sound, proven) | robust (paper) | core answers |"]
    lines += ["|---" * 5 + "|"]
    for training, record in records.items():
        (chain,) = compose_records([record, core], eps=eps, kind="certified")
        found = chain.rates
        rates = (found.natural, found.sound, found.paper, found.core_share)
        cells = ("–" if rate is None else f"{100 * rate:.1f}" for rate in rates)
        lines.append(f"| {training} | {' | '.join(cells)} |")
    alone = verdicts(core)
    natural, robust = natural_accuracy(alone.accurate()), alone.accurate() & alone.robust(eps)
    return [
        *lines,
        "",
        f"The core alone is right on {100 * natural:.1f} %, and on {100 * robust.mean():.1f} % no "
        "attack within ε changes that; nothing is proven about it.",
        "",
    ]


def under_attack(path: Path) -> list[str]:
    """What ``attack_certificates.py`` found, if it was run."""
    if not path.is_file():
        return []
    lines = [
        "",
        "## Certificates under attack",
        "",
        "`python experiments/attack_certificates.py`: every certified image attacked at its radius",
        "by 40 steps of APGD in L2 on the expectation over 16 draws; broken if the certified class",
        "loses the majority of the votes at the point found.",
        "",
        "| network | images | certified | broken | lowest share of votes | uncertified, moved |",
        "|---" * 6 + "|",
    ]
    for row in json.loads(path.read_text("utf-8")):
        counts = f"{row['inputs']} | {row['certified']} | {row['broken']}"
        share = f"{100 * row['lowest_share']:.1f} %"
        lines.append(f"| {row['network']} | {counts} | {share} | {row['uncertified_moved']} |")
    return [*lines, ""]


def describe(records: list[Record], core: Record) -> str:
    """The README of the study."""
    lines = [INTRODUCTION.format(images=max(r.frame.height for r in records))]
    panels: dict[str, dict[str, Record]] = {}
    for record in records:
        panels.setdefault(panel_of(record), {})[str(record.meta.tags["phase"])] = record
    for panel, found in sorted(panels.items()):
        ordered = {name: found[name] for name in COLOURS if name in found}
        lines += [*section(panel, ordered), *compositions(ordered, core)]
    return "\n".join(lines)


def draw(out: Path) -> None:
    """Write figures, table, text and report of the finished records below ``out``."""
    everyone = list(read_records(out))
    (core,) = (record for record in everyone if record.meta.tags.get("role") == "core")
    finished = (r for r in everyone if r.frame.height == core.frame.height)
    records = [record for record in finished if record is not core]
    table = pl.concat([rates(record) for record in records])
    text = describe(records, core) + "\n".join(under_attack(out / "attacked.json"))
    write_atomically(out / "README.md", text.encode())
    for figure in (curves(table), trade_off(table)):
        save_figure(figure, out, ("svg", "png"))
    listed = table.filter(
        (pl.col("radius") / pl.col("sigma")).round(3).is_in([0.0, 1.0, 2.0])
    ).sort("panel", "training", "radius")
    write_atomically(out / "table.csv", listed.write_csv(float_precision=3).encode())
    write_report([out], out / "report.html")
