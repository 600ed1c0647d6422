"""A small run whose every rate is known, written the way a real run writes it."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from recuse.records.schema import Record, RecordMeta, make_record
from recuse.records.store import parquet_bytes, write_record
from recuse.report.page.blocks import Page
from recuse.report.run.report import build_report

SAMPLES = 200
RADII = ("8/255", "16/255", "32/255")
WriteRun = Callable[..., Path]


def png(shade: int, size: int = 8) -> bytes:
    pixels = np.full((size, size), shade, dtype=np.uint8)
    pixels[0, 0] = 255 - shade
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def record(
    model: str, accurate: list[bool], reach: list[int], *, labels: bool = True, **tags: Any
) -> Record:
    """``reach[i]`` is how many of RADII sample i survives."""
    count = len(accurate)
    columns: dict[str, Any] = {"sample_id": [f"s{i:04d}" for i in range(count)]}
    if labels:
        columns |= {
            "label": [i % 10 for i in range(count)],
            "prediction": [i % 10 if a else (i + 1) % 10 for i, a in enumerate(accurate)],
            "accurate": accurate,
        }
    for place, radius in enumerate(RADII):
        columns[f"robust@{radius}"] = [r > place for r in reach]
    meta = RecordMeta(
        model, "digits/test", "apgd", "linf", RADII, settings={"attack": {"steps": 40}}, tags=tags
    )
    return make_record(meta, columns)


def core(samples: int = SAMPLES) -> Record:
    """Right on 95 %, robust on 15 %, partly where the others are wrong and fragile."""
    accurate = [i >= samples // 20 for i in range(samples)]
    reach = [1 if samples // 20 <= i < samples // 5 else 0 for i in range(samples)]
    return record("core", accurate, reach, role="core", loss="standard")


def robust(name: str, wrong: int, reach: list[int], samples: int = SAMPLES, **tags: Any) -> Record:
    return record(name, [i >= wrong for i in range(samples)], reach, role="robust", **tags)


def known() -> list[Record]:
    era = robust("era_1", 20, [0] * 50 + [2] * 50 + [3] * 100, loss="era", beta=1.0)
    trades = robust("trades", 20, [2] * 100 + [3] * 100, loss="trades")
    return [core(), era, trades]


@pytest.fixture
def known_records() -> list[Record]:
    return known()


def write(
    folder: Path,
    records: list[Record],
    *,
    extras: bool = False,
    eps: tuple[float, ...] = (8 / 255, 16 / 255),
) -> Path:
    for entry in records:
        write_record(folder / "records", entry)
    (folder / "config.json").write_text(json.dumps({"recipe": "demo", "seed": 7, "eps": eps}))
    if extras:
        write_extras(folder)
    return folder


@pytest.fixture
def write_run(tmp_path: Path, known_records: list[Record]) -> WriteRun:
    def write_one(name: str = "demo", records: list[Record] | None = None, **more: Any) -> Path:
        return write(tmp_path / name, known_records if records is None else records, **more)

    return write_one


@pytest.fixture(scope="session")
def demo_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of the known records, made once."""
    return build_report([write(tmp_path_factory.mktemp("demo") / "demo", known())])


@pytest.fixture(scope="session")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The same with everything else that a run may leave."""
    return build_report([write(tmp_path_factory.mktemp("full") / "demo", known(), extras=True)])


def write_extras(folder: Path) -> None:
    (folder / "environment.json").write_text(json.dumps({"python": "3.11", "cpu": {"cores": 2}}))
    log = folder / "training" / "era_1" / "log.jsonl"
    log.parent.mkdir(parents=True)
    rows = [{"epoch": e, "loss": 1.0 / e, "natural_accuracy": 0.9} for e in (1, 2)]
    log.write_text("\n".join(json.dumps(row) for row in rows))
    gallery = pl.DataFrame(
        {
            "sample_id": ["s0001"],
            "label": ["seven"],
            "prediction": ["one"],
            "adversarial_prediction": ["nine"],
            "model": ["era_1"],
            "eps": ["linf:8/255"],
            "image": [png(10)],
            "adversarial": [png(20)],
        }
    )
    (folder / "gallery").mkdir()
    (folder / "gallery" / "gallery.parquet").write_bytes(parquet_bytes(gallery))
    entry = {"name": "era_1 → core", "eps": "8/255", "attacked": 0.4321}
    (folder / "composition.json").write_text(json.dumps([entry]))
    np.savez(
        folder / "regions.npz",
        names=np.array(["standard"]),
        classes=np.array([[[0, 1], [2, 2]]], dtype=np.int8),
        points=np.array([[0.1, 0.1], [0.9, 0.9]]),
        labels=np.array([0, 2]),
        label_names=np.array(["a", "b", "c"]),
        accurate=np.array([[True, False]]),
        robust=np.array([[False, True]]),
        eps=np.array(0.1),
    )
