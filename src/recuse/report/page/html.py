"""A page as one HTML file that needs nothing else: no network, no fonts, no second file."""

import base64
import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recuse.records.store import write_atomically
from recuse.report.charts.style import PAGE_COLOURS, page_config
from recuse.report.page.blocks import Block, Figure, Page, anchor, percent, points
from recuse.report.page.figures import specification
from recuse.report.page.values import group_starts, headings, show, show_table


def write_html(page: Page, path: Path) -> Path:
    """Write a page as one offline HTML file, whole or not at all.

    Raises:
        RecordError: The file cannot be written.
    """
    write_atomically(path, render_html(page).encode())
    return path


def render_html(page: Page) -> str:
    """A page as the text of one offline HTML file.

    Every word is escaped; a content security policy forbids the file any request.
    """
    template = _environment().get_template("page.html")
    return template.render(
        page=page,
        css=Markup(_template_text("page.css")),
        script=Markup(_template_text("page.js")),
        vega=Markup(_vega()) if page.figures() else "",
        anchors=_anchors(page),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("recuse.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["kind"] = _is_kind
    environment.filters |= {
        "show": show,
        "show_table": show_table,
        "headings": headings,
        "group_starts": group_starts,
        "specification": _embedded_specification,
        "data_uri": _data_uri,
        "percent": percent,
        "points": points,
    }
    return environment


def _is_kind(block: Block, name: str) -> bool:
    return type(block).__name__ == name


def _template_text(name: str) -> str:
    return (files("recuse.report.page") / "templates" / name).read_text(encoding="utf-8")


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, safe inside a script element."""
    # Only what could end the element is rewritten; in JavaScript "\\/" in a string means "/".
    bundle = str(vl_convert.javascript_bundle())  # type: ignore[call-arg]  # has a default
    return re.sub(r"</(?=script)|<!--", _escaped, bundle, flags=re.IGNORECASE)


def _escaped(match: re.Match[str]) -> str:
    return "<\\" + match.group()[1:]


def _embedded_specification(figure: Figure) -> Markup:
    text = json.dumps(specification(figure, page_config()), separators=(",", ":"))
    for colour, variable in PAGE_COLOURS.items():
        text = text.replace(f'"{colour}"', f'"{variable}"')
    # JSON keeps its meaning with "<" escaped, and no element can be closed from inside.
    return Markup(text.replace("<", "\\u003c"))


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _anchors(page: Page) -> list[str]:
    """One distinct id a section."""
    ids: list[str] = []
    for section in page.sections:
        name = anchor(section.title)
        ids.append(name if name not in ids else f"{name}-{len(ids)}")
    return ids
