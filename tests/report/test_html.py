import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from recuse.errors import RecordError
from recuse.report.page.blocks import (
    Code,
    Column,
    Figure,
    Gallery,
    Image,
    Page,
    Picture,
    Points,
    Rate,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
)
from recuse.report.page.html import render_html, write_html

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{7*7}}<!--"
CHART = {
    "data": {"values": [{"x": 1, "model": HOSTILE}]},
    "mark": "point",
    "encoding": {"x": {"field": "x"}, "color": {"value": "#4477AA"}},
}


def page(word: str = "plain") -> Page:
    table = Table(word, (Column(word, meaning=word), "n"), ((word, Rate(0.1234)), ("b", 3)), word)
    blocks = (
        table,
        Figure("chart", word, CHART, word),
        Gallery(word, (Picture((Image(b"\x89PNG", word),), word, word),)),
        Tiles((Tile(word, Points(0.05), word),)),
        Text((word,), "warning"),
        Code(word, word),
    )
    sections = (Section(word, blocks, word), Section(word, (Text((word,)),)))
    return Page(word, (word,), sections, word, (Tile(word, Rate(0.5), word),), word)


class Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inside = ""
        self.scripts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append((self.tags[-1][1].get("type") or "", data))
        self.text += data

    def handle_endtag(self, tag):
        self.inside = ""


@pytest.fixture(scope="module")
def plain() -> str:
    return render_html(page())


def test_nothing_is_loaded_from_anywhere(plain):
    reader = Reader(plain)
    for tag, attributes in reader.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("#", "data:image/png;base64,")), (tag, value)
    style = plain[plain.index("<style>") : plain.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style


def test_the_policy_forbids_every_request(plain):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', plain)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "http" not in policy[1]
    assert "unsafe-eval" not in policy[1]


def test_hostile_names_stay_text():
    reader = Reader(render_html(page(HOSTILE)))
    images = [a for tag, a in reader.tags if tag == "img"]
    assert [a["src"] for a in images] == ["data:image/png;base64,iVBORw=="]
    assert not any("onerror" in a for _, a in reader.tags)
    assert "7*7" in reader.text
    assert "{{49}}" not in reader.text
    assert HOSTILE in reader.text


def test_the_chart_survives_embedding_word_for_word():
    reader = Reader(render_html(page(HOSTILE)))
    (spec,) = [json.loads(text) for kind, text in reader.scripts if kind == "application/json"]
    assert spec["data"]["values"][0]["model"] == HOSTILE
    assert spec["encoding"]["color"]["value"] == "var(--hue-0)"
    assert spec["config"]["axis"]["titleColor"] == "var(--ink)"


def test_every_script_ends_where_it_should(plain):
    kinds = [kind for tag, a in Reader(plain).tags if tag == "script" for kind in [a.get("type")]]
    assert kinds == ["application/json", None, None]
    assert "vegaEmbed" in plain


def test_a_page_without_charts_is_small():
    text = render_html(Page("t", (), (Section("s", (Text(("x",)),)),)))
    assert len(text) < 40_000
    assert "vega.github" not in text


def test_sections_have_distinct_anchors_in_the_contents(plain):
    reader = Reader(plain)
    ids = [a["id"] for tag, a in reader.tags if tag == "section"]
    links = [a["href"] for tag, a in reader.tags if tag == "a" and "class" not in a]
    assert len(set(ids)) == 2
    assert links == [f"#{i}" for i in ids]


def test_numbers_carry_their_exact_value_for_sorting(plain):
    cells = [a for tag, a in Reader(plain).tags if tag == "td"]
    assert "0.1234" in {a.get("data-v") for a in cells}
    assert ">12.3</td>" in plain


def test_a_failed_write_leaves_nothing(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(RecordError, match="nothing was left half-written"):
        write_html(page(), blocked / "report.html")
    for folder in (Path(), Path("/"), tmp_path):
        with pytest.raises(RecordError, match="Is a directory; nothing was left half-written"):
            write_html(page(), folder)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
