import pytest
from hypothesis import given
from hypothesis import strategies as st

from recuse.errors import ConfigError
from recuse.report.page.blocks import Points, Rate, Spread, Table, anchor, percent, points
from recuse.report.page.values import group_starts, show, show_table


def test_a_rate_is_percent_with_its_interval_in_small_print():
    shown = show(Rate(0.98125, 0.97, 0.9912, decimals=2))
    assert (shown.text, shown.small, shown.sort) == ("98.12", "97.00–99.12", 0.98125)
    assert show(Spread(0.761, 0.013)).small == "± 1.3"
    assert show(Points(-0.004, -0.01, 0.0)).small == "−1.0 to 0.0"


def test_what_is_not_defined_is_a_dash_and_never_sorts_as_a_number():
    for cell in (None, float("nan"), Rate(float("nan")), Points(float("nan"))):
        assert show(cell).text == "–"
        assert show(cell).sort is None


def test_text_and_truth_values_stay_left_and_numbers_go_right():
    assert not show("12").numeric
    assert not show(True).numeric
    assert show(12).numeric
    assert show(12).text == "12"
    assert show(1234567).text == "1\u202f234\u202f567"


@given(st.floats(-1, 1))
def test_a_difference_shows_the_sign_it_has(value):
    text = points(value)
    number = float(text.replace("−", "-"))
    assert abs(number - 100 * value) <= 0.05 + 1e-9
    assert (text[0] == "+") == (number > 0)
    assert (text[0] == "−") == (number < 0)


@given(st.floats(0, 1), st.integers(0, 3))
def test_percent_rounds_to_the_digits_asked_for(value, decimals):
    assert abs(float(percent(value, decimals)) - 100 * value) <= 0.5 * 10**-decimals + 1e-9


def test_rows_must_fit_the_columns():
    with pytest.raises(ConfigError, match="row 1 has 1 cells for 2 columns"):
        Table("t", ("a", "b"), (("x", 1), ("y",)))


def test_groups_part_where_a_named_column_changes():
    rows = (("x", Rate(0.5)), ("x", Rate(0.7)), ("y", Rate(0.1)), ("y", Rate(0.2)))
    for within, starts in (((), set()), (("group",), {2})):
        assert group_starts(Table("t", ("group", "value"), rows, within=within)) == starts


def test_only_winners_are_bold():
    rows = ((Rate(0.5), Rate(0.9)), (Rate(0.7), Rate(0.1)))
    shown = show_table(Table("t", ("a", "b"), rows, winners=frozenset({(1, 0)})))
    assert [[cell.best for cell in row] for row in shown] == [[False, False], [True, False]]


def test_anchors_are_plain():
    assert anchor("<script>") == "script"
    assert anchor("β") == "section"
