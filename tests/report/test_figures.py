import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recuse.analysis.loss_names import LOSS_NAMES
from recuse.errors import ConfigError
from recuse.report.charts.frame import ticks
from recuse.report.charts.marks import Axes, Guide, Mark, scatter
from recuse.report.charts.plots import (
    CORE,
    PAPER,
    SOUND,
    SplitBar,
    natural_against_robust,
    split_bars,
)
from recuse.report.charts.style import HUES, LOOKS, looks, page_config, paper_config
from recuse.report.page.blocks import Figure, Page, Section
from recuse.report.page.figures import save_figures, specification


def values(spec, part=None):
    """Every data row of a specification, or of one part of it."""
    names = re.findall(r'"name": "(data-[0-9a-f]+)"', json.dumps(part or spec))
    return [row for name in dict.fromkeys(names) for row in spec["datasets"][name]]


def page(*figures: Figure) -> Page:
    return Page("t", (), (Section("s", figures),))


MARKS = [
    Mark(0.01, 0.9, "ERA", panel="a", trail="t", order=2.0, label="β=1", hover={"β": "1"}),
    Mark(0.005, 0.8, "ERA", panel="a", trail="t", order=1.0, hover={"β": "0.5"}),
    Mark(0.03, 0.85, "TRADES", panel="b", y_interval=(0.8, 0.9)),
    Mark(float("nan"), 0.5, "TRADES", panel="b"),
]


def test_a_figure_becomes_an_svg_a_png_and_a_pdf(tmp_path):
    chart = scatter(MARKS, Axes("robust inaccuracy", "robust accuracy"))
    paths = save_figures(page(Figure("two words", "f", chart)), tmp_path / "figures")
    assert [p.name for p in paths] == ["two-words.svg", "two-words.png", "two-words.pdf"]
    heads = [p.read_bytes()[:5] for p in paths]
    assert heads == [b"<svg ", b"\x89PNG\r", b"%PDF-"]
    svg = paths[0].read_text()
    assert "robust accuracy (%)" in svg
    assert "β=1" in svg


def test_two_figures_of_one_name_are_refused_before_anything_is_written(tmp_path):
    chart = scatter(MARKS, Axes("x", "y"))
    with pytest.raises(ConfigError, match="share the name 'f'"):
        save_figures(page(Figure("f", "1", chart), Figure("f", "2", chart)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_marks_are_drawn_in_percent_and_gaps_left_out():
    spec = scatter(MARKS, Axes("robust inaccuracy", "robust accuracy")).to_dict()
    points = [row for row in values(spec) if "hover robust accuracy" in row]
    assert [(row["x"], row["y"]) for row in points] == [(1.0, 90.0), (0.5, 80.0), (3.0, 85.0)]
    assert points[2]["hover robust accuracy"] == "85.00 % [80.0, 90.0]"
    assert points[0]["hover β"] == "1"


def test_a_trail_follows_its_order_not_the_order_of_the_marks():
    spec = scatter(MARKS, Axes("x", "y")).to_dict()
    steps = {row["step"]: row["y"] for row in values(spec) if "step" in row}
    assert steps == {0: 80.0, 1: 90.0}


def test_no_marks_give_an_empty_chart_that_can_be_drawn(tmp_path):
    figure = Figure("none", "none", scatter([], Axes("x", "y")))
    assert save_figures(page(figure), tmp_path, ["svg"])[0].stat().st_size > 0


def test_a_core_far_below_becomes_a_line_and_a_near_one_stays_a_mark():
    composed = [
        Mark(0.95, 0.90, "ERA", SOUND, "p"),
        Mark(0.96, 0.91, "ERA", PAPER, "p"),
    ]
    far = natural_against_robust([Mark(0.98, 0.1, "core", CORE, "p"), *composed]).to_dict()
    near = natural_against_robust([Mark(0.98, 0.88, "core", CORE, "p"), *composed]).to_dict()
    lines = {row.get("label") for row in values(far)}
    assert "core ↓ 10.0" in lines
    assert not any(row.get("kind") == CORE for row in values(far))
    assert any(row.get("kind") == CORE for row in values(near))


def test_split_pieces_fill_the_bar():
    spec = split_bars([SplitBar("m", "p", (0.5, 0.25, 0.125, 0.125))]).to_dict()
    pieces = [row for row in values(spec) if "from" in row]
    assert pieces[0]["from"] == 0.0
    assert pieces[-1]["to"] == 100.0
    assert all(a["to"] == b["from"] for a, b in itertools.pairwise(pieces))


def test_series_never_share_a_look_and_known_losses_keep_theirs():
    names = ["ERA", *(f"own {i}" for i in range(20)), "TRADES"]
    styles = looks(names)
    assert len(set(styles.values())) == len(names)
    assert styles["ERA"] == LOOKS["ERA"]
    assert looks(["ERA RI"])["ERA RI"] == LOOKS["ERA"]
    assert set(LOOKS) - {"core", "network alone"} <= set(LOSS_NAMES.values())


def test_paper_figures_name_colours_that_stand_alone():
    assert "var(" not in json.dumps(paper_config())
    assert "var(--ink)" in json.dumps(page_config())
    assert len(set(HUES)) == len(HUES)


def test_the_style_gives_way_to_what_a_chart_sets_itself():
    spec = specification(Figure("f", "f", {"mark": "bar", "config": {"font": "x"}}), paper_config())
    assert spec["config"]["font"] == "x"
    assert spec["config"]["axis"] == paper_config()["axis"]


@given(st.floats(0, 100), st.floats(0.01, 40))
def test_ticks_are_round_few_and_possible(low, width):
    domain = (low - 1.0, low + width)
    values = ticks(domain, 6)
    assert len(values) <= 7
    assert all(max(0, domain[0]) <= v <= min(100, domain[1]) + 1e-6 for v in values)
    steps = {round(b - a, 6) for a, b in itertools.pairwise(values)}
    assert len(steps) <= 1
    assert all(float(f"{v:.3f}") == v for v in values) or width < 0.1


def test_guides_stay_in_their_panel():
    chart = scatter(MARKS, Axes("x", "y"), [Guide(0.02, "here", "b")]).to_dict()
    holds = [
        any(row.get("label") == "here" for row in values(chart, part)) for part in chart["concat"]
    ]
    assert holds == [False, True]
