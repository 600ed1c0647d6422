"""One way to write a value: ``era(beta=0.3, robust=trades(gamma=6))``, read without evaluation.

What a person types, a config shows and a test prints is the same text. This module holds the
grammar; which names there are is the matter of a :class:`recuse.vocabulary.Vocabulary`.

    value  = name [ "(" [ field "=" value { "," field "=" value } ] ")" ]
           | number | fraction | "[" [ value { "," value } ] "]" | 'text'

A name may hold letters, digits and ``_ - . : /``, so that ``linf:2/255`` is one word.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from recuse.errors import ConfigError

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+/\d+|\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)(?![\w.]))"
    r"|(?P<word>[A-Za-z_][\w\-.:/]*)|(?P<text>'[^']*'|\"[^\"]*\")|(?P<mark>[()\[\],=]))"
)
DEEPEST = 20


@dataclass(frozen=True)
class Call:
    """A name with settings, as written.

    Attributes:
        name: What is named, for example ``"era"``.
        settings: Field names and their values, in the order in which they were written.
    """

    name: str
    settings: tuple[tuple[str, "Written"], ...] = ()


@dataclass(frozen=True)
class Number:
    """A number as written: ``2``, ``0.5``, ``1e-3`` or ``2/255``."""

    text: str

    @property
    def value(self) -> int | float:
        """An int where it is written as one, else a float."""
        if re.fullmatch(r"[-+]?\d+", self.text):
            return int(self.text)
        return float(Fraction(self.text))


@dataclass(frozen=True)
class Quoted:
    """Text in quotation marks, without them."""

    text: str


Written = Call | Number | Quoted | tuple["Written", ...]


def parse_value(text: str) -> Written:
    """Read a value as written; nothing is looked up and nothing is evaluated.

    Args:
        text: For example ``"apgd(steps=100, loss=dlr)"``.

    Raises:
        ConfigError: Text that does not follow the grammar; the sentence names the place.

    >>> parse_value("apgd(steps=100)")
    Call(name='apgd', settings=(('steps', Number(text='100')),))
    """
    reader = _Reader(text, _tokens(text))
    value = reader.value(0)
    if reader.at < len(reader.tokens):
        raise reader.complaint(f"{reader.tokens[reader.at].text!r} is left over")
    return value


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            place = at + len(text[at:]) - len(text[at:].lstrip())
            raise _complaint(text, place, f"{text[place]!r} cannot stand here")
        found.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return found


def _complaint(text: str, place: int, what: str) -> ConfigError:
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return ConfigError(
        f"value {shown!r}: {what} (at character {place + 1}); write name(field=value, ...), for "
        "example era(beta=0.3, robust=trades(gamma=6))"
    )


class _Reader:
    """One pass over the tokens of a value."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self.text, self.tokens, self.at = text, tokens, 0

    def complaint(self, what: str) -> ConfigError:
        ended = self.at >= len(self.tokens)
        return _complaint(self.text, len(self.text) if ended else self.tokens[self.at].start, what)

    def take(self, *marks: str) -> str | None:
        """The next mark, if it is one of these."""
        if self.at < len(self.tokens) and self.tokens[self.at].text in marks:
            self.at += 1
            return self.tokens[self.at - 1].text
        return None

    def value(self, depth: int) -> Written:
        if depth > DEEPEST:
            raise self.complaint(f"values may be nested {DEEPEST} deep, not deeper")
        if self.at >= len(self.tokens):
            raise self.complaint("a value is missing")
        token = self.tokens[self.at]
        self.at += 1
        if token.kind == "number":
            return self._number(token)
        if token.kind == "text":
            return Quoted(token.text[1:-1])
        if token.kind == "word":
            return Call(token.text, self._settings(depth) if self.take("(") else ())
        if token.text == "[":
            return self._list(depth)
        self.at -= 1
        raise self.complaint(f"{token.text!r} stands where a value is expected")

    def _number(self, token: _Token) -> Number:
        try:
            Fraction(token.text)
        except ZeroDivisionError as error:
            self.at -= 1
            raise self.complaint(f"{token.text!r} divides by zero") from error
        return Number(token.text)

    def _settings(self, depth: int) -> tuple[tuple[str, Written], ...]:
        found: list[tuple[str, Written]] = []
        while not self.take(")"):
            if found and not self.take(","):
                raise self.complaint("a bracket ')' or a comma is missing")
            if self.at >= len(self.tokens) or self.tokens[self.at].kind != "word":
                raise self.complaint("the name of a field, or ')', is missing")
            field = self.tokens[self.at].text
            self.at += 1
            if not self.take("="):
                raise self.complaint(f"'=' is missing after {field!r}")
            if field in dict(found):
                raise self.complaint(f"{field!r} is given twice")
            found.append((field, self.value(depth + 1)))
        return tuple(found)

    def _list(self, depth: int) -> tuple[Written, ...]:
        found: list[Written] = []
        while not self.take("]"):
            if found and not self.take(","):
                raise self.complaint("a bracket ']' or a comma is missing")
            found.append(self.value(depth + 1))
        return tuple(found)


__all__ = ["Call", "Number", "Quoted", "Written", "parse_value"]
