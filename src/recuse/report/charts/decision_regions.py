"""Decision regions of classifiers of the plane, as the paper's Figure 1 draws them."""

import base64
import io
from dataclasses import dataclass

import altair as alt
import numpy as np
from PIL import Image

from recuse.analysis.intervals import wilson_of
from recuse.records.regions import Array, Regions
from recuse.report.charts.marks import Chart
from recuse.report.charts.style import HUES

_SIDE = 260
_PALE = 0.72
_SALTIRE = "M-1,-0.6L-0.6,-1L0,-0.4L0.6,-1L1,-0.6L0.4,0L1,0.6L0.6,1L0,0.4L-0.6,1L-1,0.6L-0.4,0Z"


@dataclass(frozen=True)
class _PointLook:
    shape: str
    size: float
    stroke: str


_STATUS = {
    "robust and right": _PointLook("circle", 14.0, "#fefefe"),
    "not robust": _PointLook("triangle-up", 46.0, "#222222"),
    "robust and wrong": _PointLook(_SALTIRE, 80.0, "#222222"),
}


def decision_regions(regions: Regions) -> Chart:
    """One panel a model: regions in pale colours, points by class, and what is wrong with them."""
    panels = [_panel(regions, number) for number in range(len(regions.names))]
    row: Chart = alt.concat(*panels, columns=3, spacing=24).resolve_scale(
        color="shared", shape="shared"
    )
    return row


def class_map(classes: Array, colours: int) -> bytes:
    """A decision map as a PNG, one pixel a cell, second coordinate upwards."""
    hues = np.array([_rgb(HUES[i % len(HUES)]) for i in range(max(colours, 1))], dtype=np.float64)
    pale = hues + (255 - hues) * _PALE
    pixels = pale[classes[::-1].astype(np.int64) % len(pale)].round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _panel(regions: Regions, number: int) -> Chart:
    uri = (
        "data:image/png;base64,"
        + base64.b64encode(class_map(regions.classes[number], len(regions.label_names))).decode()
    )
    unit = alt.Scale(domain=[0, 1], nice=False)
    axis = alt.Axis(tickCount=3, grid=False)
    picture = (
        alt.Chart(alt.InlineData([{"x": 0.5, "y": 0.5, "url": uri}]))
        .mark_image(width=_SIDE, height=_SIDE, aspect=False, smooth=False)
        .encode(
            alt.X("x:Q", title="first coordinate", scale=unit, axis=axis),
            alt.Y("y:Q", title="second coordinate", scale=unit, axis=axis),
            url="url:N",
        )
    )
    title = alt.TitleParams(regions.names[number], subtitle=_rates(regions, number))
    chart: Chart = alt.layer(picture, *_points(regions, number)).properties(
        width=_SIDE, height=_SIDE, title=title
    )
    return chart


def _rates(regions: Regions, number: int) -> str:
    accurate, robust = regions.accurate[number], regions.robust[number]
    right = 100 * wilson_of(accurate & robust).estimate
    wrong = 100 * wilson_of(~accurate & robust).estimate
    return f"{right:.1f} % robust and right, {wrong:.1f} % robust and wrong"


def _points(regions: Regions, number: int) -> list[alt.Chart]:
    """One layer a status; what is wrong is drawn last, on top of what is not."""
    rows = [
        {
            "x": round(float(x), 4),
            "y": round(float(y), 4),
            "class": regions.label_names[int(label)],
            "status": _status(bool(right), bool(stable)),
        }
        for (x, y), label, right, stable in zip(
            regions.points,
            regions.labels,
            regions.accurate[number],
            regions.robust[number],
            strict=True,
        )
    ]
    names = list(regions.label_names)
    # In lower case these are not the page's own hues: the map below them stays pale in the dark.
    hues = [HUES[i % len(HUES)].lower() for i in range(len(names))]
    shapes = alt.Scale(domain=list(_STATUS), range=[look.shape for look in _STATUS.values()])
    return [
        alt.Chart(alt.InlineData([row for row in rows if row["status"] == status]))
        .mark_point(filled=True, size=look.size, stroke=look.stroke, strokeWidth=0.6)
        .encode(
            alt.X("x:Q"),
            alt.Y("y:Q"),
            alt.Color("class:N", title="class", scale=alt.Scale(domain=names, range=hues)),
            alt.Shape("status:N", title="point", scale=shapes),
            tooltip=["class:N", "status:N", "x:Q", "y:Q"],
        )
        for status, look in _STATUS.items()
    ]


def _status(accurate: bool, robust: bool) -> str:
    if not robust:
        return "not robust"
    return "robust and right" if accurate else "robust and wrong"


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
