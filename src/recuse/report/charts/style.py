"""Colours, shapes and type of the figures: once for a page in light or dark, once for paper.

The hues are close to Paul Tol's "bright" scheme, which stays apart under every common form
of colour blindness; marks also differ by shape, so that no figure rests on colour alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

HUES = ("#4477AA", "#DD5566", "#228833", "#AA3377", "#C08A10", "#2F9EC4", "#B25F2C", "#6A5ACD")
NEUTRAL = "#7A8088"
SHAPES = ("circle", "triangle-up", "square", "diamond", "triangle-down", "cross")
# Hollow marks as filled outlines, so that a legend shows them as they are.
RING = "M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0ZM0.55,0A0.55,0.55,0,1,0,-0.55,0A0.55,0.55,0,1,0,0.55,0Z"
FRAME = "M-0.9,-0.9H0.9V0.9H-0.9ZM-0.5,-0.5V0.5H0.5V-0.5Z"

# The four splits: robust or not, right or wrong. Robustly inaccurate is the one to look for.
SPLITS = {
    "robust and right": "#4477AA",
    "right, not robust": "#A9C4E0",
    "wrong, not robust": "#D8CBAE",
    "robust and wrong": "#DD5566",
}
ON_STRONG = "#FFFFFF"


@dataclass(frozen=True)
class Look:
    """How one series is drawn."""

    colour: str
    shape: str


# What the losses look like in every figure of every report.
LOOKS = {
    "standard": Look(NEUTRAL, "diamond"),
    "core": Look(NEUTRAL, "diamond"),
    "network alone": Look(NEUTRAL, "square"),
    "AT": Look(HUES[4], "square"),
    "TRADES": Look(HUES[1], "triangle-up"),
    "MART": Look(HUES[5], "triangle-down"),
    "GAIRAT": Look(HUES[6], "cross"),
    "SCORE": Look(HUES[7], "square"),
    "ERA": Look(HUES[0], "circle"),
    "DGA": Look(HUES[3], "diamond"),
    "Gaussian": Look(HUES[4], "triangle-down"),
    "MACER": Look(HUES[5], "square"),
    "CRA": Look(HUES[2], "circle"),
}


def looks(series: Iterable[str]) -> dict[str, Look]:
    """One look a series, in the given order: the known ones as always, others by what is left."""
    names = list(dict.fromkeys(series))
    known = {name: look for name in names if (look := LOOKS.get(name.removesuffix(" RI")))}
    taken = set(known.values())
    free = [Look(h, s) for s in SHAPES for h in HUES if Look(h, s) not in taken]
    spread = sorted(free, key=lambda look: look.colour in {t.colour for t in taken})
    fresh = iter(spread * (1 + len(names) // len(spread)))
    return {name: known[name] if name in known else next(fresh) for name in names}


# Colours of the marks that the page gives a lighter twin in the dark, by CSS variable.
PAGE_COLOURS = {
    **{hue: f"var(--hue-{number})" for number, hue in enumerate(HUES)},
    NEUTRAL: "var(--hue-neutral)",
    ON_STRONG: "var(--on-strong)",
    SPLITS["right, not robust"]: "var(--split-fragile-right)",
    SPLITS["wrong, not robust"]: "var(--split-fragile-wrong)",
}

_PAGE_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_PAPER_FONT = "Helvetica, Arial, Liberation Sans, sans-serif"


def page_config() -> dict[str, Any]:
    """Vega configuration whose ink is the page's, by CSS variables: light, dark and print."""
    return _config(_PAGE_FONT, "var(--ink)", "var(--muted)", "var(--grid)", background=None)


def paper_config() -> dict[str, Any]:
    """Vega configuration for a figure in a paper: black ink on white, thin grid."""
    return _config(_PAPER_FONT, "#111111", "#333333", "#E4E4E4", background="white")


def _config(
    font: str, ink: str, muted: str, grid: str, *, background: str | None
) -> dict[str, Any]:
    return {
        "font": font,
        "background": background,
        "view": {"stroke": None},
        "axis": _axis(ink, muted, grid),
        "axisBand": {"grid": False, "domain": False, "ticks": False, "labelPadding": 6},
        "legend": _legend(ink, muted),
        "header": {
            "labelColor": ink,
            "titleColor": muted,
            "labelFontSize": 12.5,
            "labelFontWeight": "bold",
            "labelLimit": 340,
        },
        "title": {
            "color": ink,
            "subtitleColor": muted,
            "fontSize": 12.5,
            "fontWeight": "bold",
            "anchor": "start",
            "frame": "group",
            "offset": 8,
            "limit": 340,
        },
        "text": {"color": ink, "fontSize": 11},
        "range": {"category": list(HUES)},
        "point": {"size": 70, "filled": True, "opacity": 1},
        "line": {"strokeWidth": 1.6},
        "rule": {"color": muted},
        "bar": {"color": HUES[0]},
    }


def _legend(ink: str, muted: str) -> dict[str, Any]:
    return {
        "labelColor": ink,
        "titleColor": muted,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "symbolSize": 80,
        "symbolOpacity": 1,
        "symbolBaseFillColor": muted,
        "symbolBaseStrokeColor": muted,
        "labelLimit": 260,
    }


def _axis(ink: str, muted: str, grid: str) -> dict[str, Any]:
    return {
        "labelColor": muted,
        "titleColor": ink,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "gridColor": grid,
        "gridWidth": 1,
        "domainColor": muted,
        "tickColor": muted,
        "tickSize": 4,
        "labelLimit": 240,
        "labelFlush": False,
        "labelOverlap": True,
    }
