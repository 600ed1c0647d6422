"""What a page of documentation asks a reader to run, read strictly: what is not known fails."""

import shlex
from dataclasses import dataclass
from pathlib import Path

FENCE = "```"


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: File it stands in.
        line: Line of its opening fence, from 1.
        language: What stands behind the fence.
        text: What is between the fences.
    """

    page: Path
    line: int
    language: str
    text: str

    def commands(self) -> list[list[str]]:
        """The words of every command of a console block; lines without a prompt are output."""
        joined = self.text.replace("\\\n", " ")
        lines = [line.strip() for line in joined.splitlines()]
        return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page.

    Raises:
        ValueError: A fence that is not closed, or code that is fenced in another way.
    """
    found, opened = [], None
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if line.lstrip().startswith(("~~~", "````", ".. code")):
            raise ValueError(f"{page.name}, line {number}: fence code by three backticks")
        if not line.lstrip().startswith(FENCE):
            if opened is not None:
                opened[1].append(line)
            continue
        if opened is None:
            opened = ((number, line.strip().removeprefix(FENCE)), [])
        else:
            (start, language), lines = opened
            found.append(Block(page, start, language, "\n".join(lines)))
            opened = None
    if opened is not None:
        raise ValueError(f"{page.name}, line {opened[0][0]}: the fence is not closed")
    return found
