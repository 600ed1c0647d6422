"""Every block of the README and of the documentation is run as a reader would run it.

Python blocks of a page run together, in order, in a folder of their own; so do the commands of its
console blocks between them. Large data and networks are replaced by small ones of the same names,
many epochs by one; a language that nothing here runs is an error.
"""

import functools
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
import torch

from recuse.attacks import ATTACKS
from recuse.cli.main import parse
from recuse.data import Cifar10
from recuse.models import Mlp, SmallConvNet, model_names
from recuse.models.cards import card_for
from recuse.models.checkpoint import save_checkpoint
from recuse.models.manifest import CIFAR10_LABELS
from recuse.records import schema
from recuse.selectors import SELECTORS
from recuse.systems import load
from recuse.training import ROBUST_LOSSES

from .data.conftest import png
from .data.test_detection import thing, write_scene, write_splits
from .documents import Block, blocks

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")])
# What Sphinx reads, and what is to be looked at.
NOT_RUN = ("{toctree}", "{commands}", "{values}", "{room}", "text")
NETWORKS = ("cifar10_resnet4b_adv2", "cifar10_resnet56_std", "cifar10_resnet20_std")
# Less of the same: what costs time and changes nothing about whether a command works.
QUICK: dict[str, object] = {"epochs": 1, "limit": 3, "search": 2, "restarts": 1, "device": "cpu"}
# What drawn images and untrained networks cannot keep.
QUICK |= {"max_natural_loss": 99.0}


def _title(page: Path) -> str:
    return str(page.relative_to(ROOT))


def write_cifar10(folder: Path) -> None:
    """A few drawn images under the names of the data folder, learnable by their brightness."""
    draw = np.random.default_rng(0)
    for part, kind, count in (("train", "jpeg", 60), ("test", "lossless", 20)):
        labels = [i % 10 for i in range(count)]
        pixels = [draw.integers(20 * k, 20 * k + 60, (32, 32, 3)) for k in labels]
        images = [{"bytes": png(p.astype(np.uint8)), "path": "x.png"} for p in pixels]
        frame = pl.DataFrame({"img": images, "label": labels, "index": range(count)})
        names = ", ".join(f'"{name}"' for name in CIFAR10_LABELS)
        features = f'{{"info": {{"features": {{"label": {{"names": [{names}]}}}}}}}}'
        frame.write_parquet(
            folder / f"cifar10_{kind}_{part}.parquet", metadata={"huggingface": features}
        )


def write_street_scenes(folder: Path) -> None:
    """A few scenes with two signs each in the layout of MTSD."""
    names = [f"scene{i}" for i in range(8)]
    for name in names:
        stop = thing(f"{name}-a", "regulatory--stop--g1", (100, 80, 140, 120))
        curve = thing(f"{name}-b", "warning--curve--g2", (10, 5, 40, 45))
        write_scene(folder, name, [stop, curve])
    write_splits(folder, train=names[:4], val=names[4:6], test=names[6:])


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which a reader works, with data, networks and a package of their own."""
    for name in ("data", "data/models", "work", "work/my_package"):
        (tmp_path / name).mkdir()
    write_cifar10(tmp_path / "data")
    torch.manual_seed(0)
    for name in NETWORKS:
        config = Mlp(shape=(3, 32, 32), classes=10, width=8, hidden=1)
        card = card_for(name, config, label_names=CIFAR10_LABELS)
        save_checkpoint(tmp_path / "data" / "models" / f"{name}.safetensors", card.build(), card)
    for seed, label in enumerate(("cat", "dog")):
        (tmp_path / "work" / "my_images" / label).mkdir(parents=True)
        for i in range(9):
            pixels = np.random.default_rng([seed, i]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            (tmp_path / "work" / "my_images" / label / f"{i}.png").write_bytes(png(pixels))
    write_street_scenes(tmp_path / "work" / "mtsd")
    torch.save(SmallConvNet().build().state_dict(), tmp_path / "work" / "my_net.pt")
    (tmp_path / "work" / "my_package" / "nets.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))\n"
    )
    monkeypatch.setenv("RECUSE_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path / "work")
    with patch.dict(SELECTORS), patch.dict(ROBUST_LOSSES), patch.dict(ATTACKS):  # pages add some
        yield tmp_path / "work"
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


def run_command(words: list[str]) -> None:
    """Run one command of a console block, or look up what it names."""
    program, *rest = words
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets), f"make {rest} is no target"
        return
    if program == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        extras = re.findall(r"[\w-]+", rest[-1].partition("[")[2])
        assert rest[:-1] == ["install", "-c", "constraints.txt", "-e"]
        assert set(extras) <= set(project["optional-dependencies"]), f"{extras} are no extras"
        return
    assert program == "recuse", f"nothing runs {program!r}"
    call = parse(rest)
    assert isinstance(call, functools.partial)
    if rest[0] == "serve":  # until it is stopped; the tests of serving start and stop it
        load(*call.args)
        return
    less = QUICK
    if "digits" in rest:  # real ones, which are small and have to be learnt a little
        less = QUICK | {"epochs": 6, "limit": None if rest[0] == "train" else 12}
    call.func(
        *(lessened(value, less) for value in call.args),
        **{name: less.get(name, lessened(value, less)) for name, value in call.keywords.items()},
    )


def lessened(value: object, less: dict[str, object]) -> object:
    """A group of options with less of the same; anything else as it is."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    known = {field.name for field in fields(value)}
    return replace(value, **{name: less[name] for name in less if name in known})


def run_python(source: str, names: dict[str, object], where: str) -> None:
    """Run a Python block with few epochs."""
    exec(compile(re.sub(r"epochs=\d+", "epochs=1", source), where, "exec"), names)


RUNNERS: dict[str, Callable[[Block, dict[str, object]], None]] = {
    "python": lambda block, names: run_python(
        block.text, names, f"{block.page.name}, line {block.line}"
    ),
    "console": lambda block, _: [run_command(words) for words in block.commands()],
}


def run_page(page: Path) -> None:
    """Run all blocks of a page, in order.

    Raises:
        KeyError: A block that nothing runs.
    """
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.language.partition(" ")[0] not in NOT_RUN:
            RUNNERS[block.language](block, names)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if "```" in p.read_text()], ids=_title)
def test_every_block_of_the_documentation_runs(page: Path, reader: Path) -> None:
    run_page(page)


def inline_commands() -> list[tuple[str, str]]:
    """Commands in running text and tables, by page."""
    found = []
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        found += [(_title(page), text) for text in re.findall(r"`(recuse [^`]+)`", prose)]
    return found


@pytest.mark.parametrize(("page", "text"), inline_commands())
def test_commands_in_the_text_are_commands(
    page: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(text.replace("…", " "))[1:]
    try:
        assert callable(parse(words))
    except SystemExit:
        # The text may leave out what its sentence does not speak of, but not name what is not.
        said = capsys.readouterr().err
        assert "required" in said, f"{page}: {text}: {said}"
        assert "nrecognized" not in said, f"{page}: {text}: {said}"


def test_real_networks_and_data_of_those_names_are_there(
    shared_data: Path, shared_models: Path
) -> None:
    assert set(NETWORKS) <= set(model_names(data_root=shared_data))
    assert len(Cifar10().load_test(shared_data)) == 1017


def test_every_room_is_on_a_page_of_the_reference() -> None:
    named = re.compile(r"^```\{room\} (\S+)$", re.MULTILINE)
    shown = {room for page in PAGES for room in named.findall(page.read_text())}
    package = ROOT / "src" / "recuse"
    rooms = {f"recuse.{p.parent.name}" for p in package.glob("*/__init__.py")}
    rooms |= {f"recuse.{p.stem}" for p in package.glob("*.py") if p.stem != "__init__"}
    # The command line, and its other name, have pages of their own, made of its help.
    assert rooms - shown == {"recuse.cli", "recuse.__main__"}


def test_every_column_of_a_record_is_described() -> None:
    described = re.findall(r"^``(\w+?)(?:@R)?``", str(schema.__doc__), re.MULTILINE)
    assert sorted(described) == sorted({**schema.COLUMNS, **schema.RADIUS_COLUMNS})


def test_what_costs_time_is_found_among_the_options_of_a_command() -> None:
    call = parse(["evaluate", "m:f", "--data", "digits"])
    assert isinstance(call, functools.partial)
    groups = [lessened(value, QUICK) for value in (*call.args, *call.keywords.values())]
    assert 3 in [getattr(group, "limit", None) for group in groups]


def test_there_is_no_documentation_of_another_kind() -> None:
    docs = ROOT / "docs"
    files = [file for file in docs.rglob("*") if file.is_file()]
    written = [file for file in files if file.relative_to(docs).parts[0] != "_build"]
    kinds = {file.suffix for file in written}
    assert kinds <= {".md", ".py", ".svg", ".png", ".pyc", ".css"}


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("```bash\nls\n```", KeyError, "bash"),
        ("```\nplain\n```", KeyError, "''"),
        ("~~~python\n1\n~~~", ValueError, "three backticks"),
        ("```python\n1", ValueError, "not closed"),
        ("```python\nimport no_such_module\n```", ImportError, "no_such_module"),
        ("```python\nx = 1\n```\n\n```python\nassert x == 2, x\n```", AssertionError, "1"),
        ("```console\n$ curl x\n```", AssertionError, "nothing runs 'curl'"),
        ("```console\n$ make nothing\n```", AssertionError, "no target"),
        ("```console\n$ recuse train x --speed 9 --out y\n```", SystemExit, "2"),
        ("```console\n$ recuse show \\\n    nowhere\n```", Exception, "no records below nowhere"),
    ],
)
def test_a_block_that_does_not_run_fails(
    tmp_path: Path, text: str, error: type[BaseException], says: str
) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(error, match=re.escape(says)):
        run_page(page)
