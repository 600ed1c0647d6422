"""One way to write a value: ``era(beta=0.3, robust=trades(gamma=6))``, read without evaluation.

What a person types, a config shows and a test prints is the same text. This module holds the
grammar; which names there are is the matter of a :class:`recuse.vocabulary.Vocabulary`.

    value  = name [ "(" [ field "=" value { "," field "=" value } ] ")" ]
           | number | fraction | "[" [ value { "," value } ] "]" | 'text'

A name may hold letters, digits and ``_ - . : /``, so that ``linf:2/255`` is one word.
"""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

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
        return float(Fraction(self.text) if "/" in self.text else self.text)


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
        number, fault = Number(token.text), ""
        try:
            fault = "" if math.isfinite(number.value) else "is too large"
        except ZeroDivisionError:
            fault = "divides by zero"
        except (OverflowError, ValueError):  # more digits than a float, or than int reads
            fault = "is too large"
        if fault:
            self.at -= 1
            raise self.complaint(f"{token.text:.20} {fault}")
        return number

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


def shown(written: Written) -> str:
    """A written value in a message."""
    if isinstance(written, tuple):
        return f"[{', '.join(shown(part) for part in written)}]"
    if isinstance(written, Call):
        inner = ", ".join(f"{key}={shown(value)}" for key, value in written.settings)
        return f"{written.name}({inner})" if inner else written.name
    return repr(written.text) if isinstance(written, Quoted) else written.text


_TRUTH = {"true": True, "false": False}


def _number(written: Written, where: str) -> float:
    if not isinstance(written, Number):
        raise ConfigError(f"{where} takes a number, not {shown(written)}")
    return float(written.value)


def _integer(written: Written, where: str) -> int:
    if not isinstance(written, Number) or not isinstance(written.value, int):
        raise ConfigError(f"{where} takes a whole number, not {shown(written)}")
    return written.value


def _boolean(written: Written, where: str) -> bool:
    if not isinstance(written, Call) or written.settings or written.name not in _TRUTH:
        raise ConfigError(f"{where} takes true or false, not {shown(written)}")
    return _TRUTH[written.name]


def string(written: Written, where: str) -> str:
    """A word, or text in quotation marks.

    Raises:
        ConfigError: Anything else; ``where`` begins the sentence.
    """
    if isinstance(written, Quoted):
        return written.text
    if isinstance(written, Call) and not written.settings:
        return written.name
    raise ConfigError(f"{where} takes a word or text in quotation marks, not {shown(written)}")


def literal(written: Written, options: tuple[Any, ...], where: str) -> Any:
    """One of the given options.

    Raises:
        ConfigError: Another word; ``where`` begins the sentence.
    """
    word = shown(written) if not isinstance(written, Quoted) else written.text
    found = {str(option): option for option in options}
    if word not in found:
        raise ConfigError(f"{where} takes {' or '.join(found)}, not {word}")
    return found[word]


def _path(written: Written, where: str) -> Path:
    return Path(string(written, where))


SCALARS = {float: _number, int: _integer, bool: _boolean, str: string, Path: _path}
"""How a scalar field is read, by its type."""

__all__ = [
    "SCALARS",
    "Call",
    "Number",
    "Quoted",
    "Written",
    "literal",
    "parse_value",
    "shown",
    "string",
]
