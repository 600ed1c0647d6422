"""Charts as specifications and as files: SVG, PNG and PDF in the style of a paper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import altair as alt
import vl_convert

from recuse.errors import ConfigError
from recuse.records.store import slug, write_atomically
from recuse.report.charts.style import paper_config
from recuse.report.page.blocks import Figure, Page

Format = Literal["svg", "png", "pdf"]
FORMATS: tuple[Format, ...] = ("svg", "png", "pdf")
_PNG_SCALE = 3.0


def specification(figure: Figure, config: dict[str, Any]) -> dict[str, Any]:
    """The Vega-Lite specification of a figure, dressed in ``config``.

    Args:
        figure: Its chart is an altair chart or a specification already.
        config: From :mod:`recuse.report.charts.style`; settings of the chart itself win over it.
    """
    if isinstance(figure.chart, dict):
        spec = dict(figure.chart)
    else:
        with alt.data_transformers.enable("default", max_rows=None):
            spec = figure.chart.to_dict()
    own = {k: v for k, v in spec.pop("config", {}).items() if k not in {"view"} or v != _DEFAULT}
    return {**spec, "config": {**config, **own}}


# What altair writes into every chart unless told otherwise; it says nothing about the figure.
_DEFAULT = {"continuousWidth": 300, "continuousHeight": 300}


def save_figures(page: Page, folder: Path, formats: Sequence[Format] = FORMATS) -> tuple[Path, ...]:
    """Write every figure of a page as ``folder/<name>.<format>``, ready for a paper.

    Returns:
        The files, in reading order.

    Raises:
        ConfigError: Two figures of one name.
        RecordError: The folder cannot be written.
    """
    figures = page.figures()
    names = [figure.name for figure in figures]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"figures share the name {sorted(twice)[0]!r}; give each its own")
    return tuple(path for figure in figures for path in save_figure(figure, folder, formats))


def save_figure(
    figure: Figure, folder: Path, formats: Sequence[Format] = FORMATS
) -> tuple[Path, ...]:
    """Write one figure as ``folder/<name>.<format>``."""
    svg = vl_convert.vegalite_to_svg(specification(figure, paper_config()))
    written = []
    for kind in formats:
        path = folder / f"{slug(figure.name)}.{kind}"
        write_atomically(path, _render(svg, kind))
        written.append(path)
    return tuple(written)


def _render(svg: str, kind: Format) -> bytes:
    if kind == "svg":
        return svg.encode()
    if kind == "pdf":
        return bytes(vl_convert.svg_to_pdf(svg))
    return bytes(vl_convert.svg_to_png(svg, scale=_PNG_SCALE))
