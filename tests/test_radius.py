from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recuse.errors import ConfigError
from recuse.radius import format_radius, parse_norm, parse_radius


@given(st.floats(min_value=0, max_value=10, allow_nan=False))
def test_text_form_gives_the_same_float_back(value: float) -> None:
    assert parse_radius(format_radius(value)) == pytest.approx(value, rel=1e-12, abs=0)


@given(st.floats(min_value=0, max_value=10, allow_nan=False))
def test_what_was_read_has_a_text_that_is_read_as_the_very_same(value: float) -> None:
    radius = parse_radius(value)
    assert parse_radius(format_radius(radius)) == radius


@given(st.integers(min_value=1, max_value=254))
def test_sums_of_steps_are_the_steps(steps: int) -> None:
    """One float and one text, whatever the rounding on the way."""
    found = parse_radius(steps * (1 / 255))
    assert (found, format_radius(found)) == (steps / 255, format_radius(steps / 255))
    assert parse_radius(steps / 255) == steps / 255


@given(st.integers(min_value=1, max_value=254))
def test_steps_of_255_double_exactly(steps: int) -> None:
    assert 2 * parse_radius(f"{steps}/255") == parse_radius(Fraction(2 * steps, 255))


@pytest.mark.parametrize("text", ["", "abc", "1/0", "-1/255", "nan", "inf", "2/255px"])
def test_anything_else_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^radius .*"):
        parse_radius(text)


def test_norm_names() -> None:
    assert parse_norm(" Linf ") == "linf"
    with pytest.raises(ConfigError, match="write 'linf' or 'l2'"):
        parse_norm("l1")
