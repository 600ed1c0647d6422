"""The grammar of values: what parses, and that everything else is one sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recuse.errors import ConfigError
from recuse.values import DEEPEST, Call, Number, Quoted, parse_value


def test_settings_nest() -> None:
    assert parse_value(" era( beta = 3e-1, robust=trades(gamma=6) ) ") == Call(
        "era",
        (("beta", Number("3e-1")), ("robust", Call("trades", (("gamma", Number("6")),)))),
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("2/255", 2 / 255), ("-1", -1), ("1e-3", 1e-3), (".5", 0.5), ("7", 7), ("2.", 2.0)],
)
def test_numbers(text: str, value: float) -> None:
    number = parse_value(text)
    assert isinstance(number, Number)
    assert number.value == value
    assert isinstance(number.value, type(value))


def test_lists_text_and_words_with_a_colon() -> None:
    assert parse_value("[1, 'a b', linf:2/255]") == (Number("1"), Quoted("a b"), Call("linf:2/255"))


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("era(beta=0.3", 13, "missing"),
        ("era(beta=0.3))", 14, "left over"),
        ("era(beta 0.3)", 10, "'=' is missing"),
        ("era(beta=)", 10, "value is expected"),
        ("era(beta=1 robust=2)", 12, "comma"),
        ("era(beta=1, beta=2)", 18, "twice"),
        ("era(0.3)", 5, "name of a field"),
        ("apgd(steps=1/0)", 12, "zero"),
        ("apgd(steps=§)", 12, "cannot stand"),
        ("[1, 2", 6, "missing"),
        ("", 1, "missing"),
    ],
)
def test_faults_name_their_place(text: str, place: int, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as raised:
        parse_value(text)
    assert f"(at character {place})" in str(raised.value)


def test_endless_nesting_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match=f"{DEEPEST} deep"):
        parse_value("a(b=" * 5000)


@given(st.text(alphabet="ab(),=[]12/.'-: \x00é", max_size=40))
def test_any_text_parses_or_is_refused_in_one_sentence(text: str) -> None:
    sentence = "read"
    try:
        parse_value(text)
    except ConfigError as error:
        sentence = str(error)
    assert len(sentence.splitlines()) == 1
