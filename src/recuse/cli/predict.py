"""``recuse predict``: a system's answers to images, one row each."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from recuse.cli.arguments import Device

if TYPE_CHECKING:
    from torch import Tensor

    from recuse.systems import System
    from recuse.systems.stream import Answered

Format = Literal["auto", "table", "jsonl", "parquet"]
Row = dict[str, Any]
_SUFFIXES: dict[str, Format] = {".jsonl": "jsonl", ".parquet": "parquet"}
_TABLE = "{:<32} {:<16} {:<14} {:<9} {:>8} {:>6}"
_SCALE = 128


def predict(
    system: Annotated[Positional[Path], arg(metavar="SYSTEM")],
    inputs: Annotated[
        Positional[tuple[str, ...]], arg(metavar="INPUT", help_behavior_hint="(one or more)")
    ],
    /,
    format: Format = "auto",
    out: Path | None = None,
    explain: Path | None = None,
    seed: int | None = None,
    device: Device = "auto",
) -> None:
    """Ask a system about images; one row an image, in order.

    What cannot be read is listed and skipped: the exit code is then 3, or 2 where nothing could be
    read.

    Args:
        system: A folder that recuse build wrote.
        inputs: Image files, folders, patterns such as "*.png", or - for standard input (one image,
            or names of files, one a line).
        format: table, jsonl or parquet; by default as the file of --out is called, else a table.
        out: Write the rows to this file instead of standard output.
        explain: For each image write a picture into this folder: the image, and the nearest one
            that its network answers otherwise.
        seed: Of the selectors' searches; by default nobody can foresee them.
    """
    from recuse.cli.console import LEFT_OUT, console
    from recuse.errors import ConfigError
    from recuse.systems import load
    from recuse.systems.stream import answered, sources

    if not inputs:
        raise ConfigError("name one image or more, a folder, or - for standard input")
    kind = _kind(format, out)
    loaded = load(system, device=_device(device))

    def say(sentence: str) -> None:
        console.print(f"recuse: {sentence}", markup=False, soft_wrap=True)

    found = answered(loaded, sources(inputs), seed=seed, say=say)
    counts = {"answered": 0, "skipped": 0}
    rows = _followed(found, loaded, explain, counts, say)
    _WRITERS[kind](_from_first_answer(rows), out)
    if counts["skipped"]:
        total = counts["answered"] + counts["skipped"]
        say(f"{counts['skipped']} of {total} inputs could not be read and were skipped")
        sys.exit(LEFT_OUT if counts["answered"] else 2)


def _device(name: str) -> str:
    """Without a look at the vocabulary of training, which takes longer than a small system."""
    import torch

    from recuse.errors import ConfigError

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r} is not available here; use auto, cpu or cuda"
        ) from error
    return name


def _kind(format: Format, out: Path | None) -> Format:
    from recuse.errors import ConfigError

    kind = format
    if kind == "auto":
        kind = _SUFFIXES.get(out.suffix, "table") if out else "table"
    if kind == "parquet" and out is None:
        raise ConfigError("parquet is no text: name the file (--out answers.parquet)")
    return kind


def _followed(
    found: "Iterable[Answered]",
    system: "System",
    explain: Path | None,
    counts: dict[str, int],
    say: Callable[[str], None],
) -> Iterator[Row]:
    """Every row, counted; what failed is told, and pictures are drawn on the way."""
    for number, entry in enumerate(found):
        counts["skipped" if entry.failed else "answered"] += 1
        if entry.image is None:
            say(f"skipped: {entry.row['error']}")
        elif explain is not None:
            source = str(entry.row["input"])
            entry.row["explanation"] = _drawn(system, source, entry.image, explain, number)
        yield entry.row


def _from_first_answer(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, held back until one of them is an answer: with none there is nothing to write."""
    held: list[Row] = []
    for row in rows:
        held.append(row)
        if row["error"] is None:
            yield from held
            yield from rows
            return


def _drawn(system: "System", source: str, image: "Tensor", folder: Path, number: int) -> str:
    """Draw an image beside its nearest neighbour with another answer; the neighbour in words."""
    import numpy as np
    import torch
    from PIL import Image

    explanation = system.explain(image)
    pair = torch.cat([image, explanation.picture], dim=2)
    pixels = pair.permute(1, 2, 0).mul(255).round().numpy().astype(np.uint8)
    picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    scale = max(1, _SCALE // picture.height)
    size = (scale * picture.width, scale * picture.height)
    picture = picture.resize(size, Image.Resampling.NEAREST)
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / f"{number:06d}-{Path(source).stem}.png")
    return explanation.sentence


def _write_lines(lines: Iterable[str], out: Path | None) -> None:
    with ExitStack() as open_files:
        file = sys.stdout
        for number, line in enumerate(lines):
            if out is not None and not number:
                out.parent.mkdir(parents=True, exist_ok=True)
                file = open_files.enter_context(out.open("w", encoding="utf-8"))
            print(line, file=file, flush=True)


def _write_jsonl(rows: Iterable[Row], out: Path | None) -> None:
    _write_lines((json.dumps(row, ensure_ascii=False) for row in rows), out)


def _write_table(rows: Iterable[Row], out: Path | None) -> None:
    def lines() -> Iterator[str]:
        for number, row in enumerate(rows):
            if not number:
                yield _TABLE.format("input", "answer", "by", "guarantee", "score", "passes")
            yield _line(row)

    _write_lines(lines(), out)


def _line(row: Row) -> str:
    if row["error"] is not None:
        return f"{row['input']:<32} not read"
    answer = "(abstained)" if row["abstained"] else row["name"]
    score = "–" if row["score"] is None else f"{row['score']:.3g}"
    by = row["stage"] or "nobody"
    line = _TABLE.format(row["input"], answer, by, row["guarantee"], score, row["passes"])
    return f"{line}  {row['explanation']}" if "explanation" in row else line


def _write_parquet(rows: Iterable[Row], out: Path | None) -> None:
    import io

    import polars as pl

    from recuse.records.store import write_atomically

    kept = list(rows)
    if kept and out is not None:
        data = io.BytesIO()
        pl.DataFrame(kept, infer_schema_length=None).write_parquet(data)
        write_atomically(out, data.getvalue())


_WRITERS: dict[Format, Callable[[Iterable[Row], Path | None], None]] = {
    "table": _write_table,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
