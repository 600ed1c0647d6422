"""Colours and type of the figures: once for a page in light or dark, once for paper.

The hues are Paul Tol's "bright" scheme, which stays apart under every common form of colour
blindness; marks also differ by shape, so that no figure rests on colour alone.
"""

from typing import Any

HUES = ("#4477AA", "#EE6677", "#228833", "#AA3377", "#CC9A22", "#33A6CC", "#8A8A8A", "#B25F2C")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke", "wedge")
NEUTRAL = "#8A8F98"
GOOD = "#228833"
BAD = "#EE6677"

# The four splits: robust or not, right or wrong. Stably wrong is the one to look for.
SPLIT_COLOURS = {
    "robust, right": "#4477AA",
    "not robust, right": "#A9C4E0",
    "not robust, wrong": "#D9C9A8",
    "robust, wrong": "#EE6677",
}

_PAGE_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_PAPER_FONT = "Helvetica, Arial, Liberation Sans, sans-serif"


def page_config() -> dict[str, Any]:
    """Vega configuration whose ink is the page's, by CSS variables: light, dark and print."""
    return _config(_PAGE_FONT, "var(--ink)", "var(--muted)", "var(--grid)", size=12)


def paper_config() -> dict[str, Any]:
    """Vega configuration for a figure in a paper: black ink on white, thin grid."""
    return _config(_PAPER_FONT, "#111111", "#333333", "#E4E4E4", size=11)


def _config(font: str, ink: str, muted: str, grid: str, *, size: int) -> dict[str, Any]:
    return {
        "font": font,
        "background": None,
        "view": {"stroke": None},
        "axis": {
            "labelColor": muted,
            "titleColor": ink,
            "labelFontSize": size - 1,
            "titleFontSize": size,
            "titleFontWeight": "normal",
            "titlePadding": 8,
            "gridColor": grid,
            "gridWidth": 1,
            "domainColor": muted,
            "tickColor": muted,
            "tickSize": 4,
            "labelFlush": False,
            "labelLimit": 260,
        },
        "axisBand": {"grid": False, "domain": False, "ticks": False, "labelPadding": 6},
        "legend": {
            "labelColor": ink,
            "titleColor": muted,
            "labelFontSize": size - 1,
            "titleFontSize": size - 1,
            "titleFontWeight": "normal",
            "symbolSize": 70,
            "labelLimit": 240,
        },
        "header": {
            "labelColor": ink,
            "titleColor": muted,
            "labelFontSize": size,
            "labelFontWeight": "bold",
            "titleFontSize": size,
            "labelLimit": 320,
        },
        "title": {"color": ink, "fontSize": size + 1, "fontWeight": "normal", "anchor": "start"},
        "text": {"color": ink, "fontSize": size - 1},
        "range": {"category": list(HUES)},
        "point": {"size": 60, "filled": True},
        "line": {"strokeWidth": 1.6},
        "rule": {"color": muted},
    }
