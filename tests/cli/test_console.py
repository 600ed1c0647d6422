"""Progress where output is a file: few lines, and every new word at once."""

import pytest

from recuse.cli import console
from recuse.cli.console import PlainProgress


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(console.console, "print", lambda text, **_: found.append(text))
    return found


def test_numbers_of_a_note_are_no_news_but_words_are(lines: list[str]) -> None:
    told = PlainProgress()
    for step in range(1, 100):
        told("train", step, 1000, f"loss {1 / step:.4f}")
    assert len(lines) == 1
    told("train", 100, 1000, "loss nan")
    assert len(lines) == 1
    told("train", 101, 1000, "waiting for process 7")
    assert lines[1].endswith("waiting for process 7")


def test_the_last_step_is_told_when_the_work_took_long(
    lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 20.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    told = PlainProgress()
    for done in (0, 1, 2):
        told("attack", done, 2)
    assert lines == ["attack: 2/2"]
