"""Files and words that nobody meant to write: each is read, or refused in one sentence."""

import io
import json
import math
import os
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recuse.data.annotations import LAYOUTS
from recuse.errors import RecuseError
from recuse.radius import parse_radius
from recuse.recipes import read_run_config
from recuse.recipes.families import VOCABULARY
from recuse.records.answers import Answers, read_answers, to_fields
from recuse.records.layout import (
    ANSWERS,
    COMPOSITION_RATES,
    CONFIG,
    GALLERY,
    GALLERY_PICTURES,
    META,
    PACK,
    RECORDS,
    REGIONS,
    TRAINING,
    shard_name,
)
from recuse.records.packed import NOTES, SEAL, read_pack
from recuse.records.run_folder import read_compositions, read_run
from recuse.records.schema import RecordMeta, make_record
from recuse.records.sealed import DamagedError, checksum, sealed
from recuse.records.sources import load_records
from recuse.records.store import read_record, write_record
from recuse.threat import Threat

RESULTS = Path(__file__).parents[1] / "results" / "runs"
# For minutes each, with other examples every time: make soak.
MANY = os.environ.get("RECUSE_FUZZ_EXAMPLES")
fuzzed = settings(
    max_examples=int(MANY or 60),
    deadline=None,
    derandomize=MANY is None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ODD = [
    None,
    True,
    0,
    -1,
    1 << 70,
    10**400,
    0.5,
    math.inf,
    math.nan,
    "",
    "a",
    "2/255",
    "1e99999999",
    "9" * 5000,
    "\ud800",
    "\0",
    "..",
    "x" * 300,
    [],
    [1],
    [None],
    ["a", "a"],
    {},
    {"kind": 1},
    {"kind": "Pgd"},
    {"a": {}},
    nested(70),
]
RAW = [
    b"",
    b"\xff\xfe",
    b"[1]",
    b"null",
    b"3",
    b'"x"',
    b"{",
    b"[" * 2000,
    b'{"a":' * 1000,
    b"\x00" * 64,
    b"PAR1",
    b"PAR1" * 8,
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in JSON values."""
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(place for key, below in inside for place in places(below, (*path, key)))]


@st.composite
def bent(draw: Callable[..., Any], whole: Any) -> Any:
    """JSON values with one to three places replaced, removed or added to."""
    found = deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(found)))
        odd = deepcopy(draw(st.sampled_from(ODD)))
        if not place:
            found = odd
            continue
        above = found
        for key in place[:-1]:
            above = above[key]
        how = draw(st.sampled_from(["replace", "remove", "add"]))
        if how == "remove":
            del above[place[-1]]
        elif how == "add" and isinstance(above, dict):
            above[draw(st.sampled_from(["kind", "format", "x", "\ud800"]))] = odd
        else:
            above[place[-1]] = odd
    return found


def texts(whole: Any) -> st.SearchStrategy[bytes]:
    """Files: bent JSON, and what is no JSON at all."""
    return st.one_of(
        bent(whole).map(lambda v: json.dumps(v).encode()),
        st.sampled_from(RAW),
        st.binary(max_size=64),
    )


def answered(read: Callable[..., Any], *args: Any) -> bool:
    """Whether what comes out is an answer, or an error of one line."""
    try:
        read(*args)
    except RecuseError as error:
        return len(str(error).splitlines()) == 1
    return True


META_FIELDS = {
    "model": "m",
    "dataset": "d/test",
    "attack": "apgd",
    "norm": "linf",
    "radii": ["1/255", "2/255"],
    "weights": "a",
    "settings": {"attack": {"kind": "Apgd", "steps": 40}},
    "seed": 0,
    "tags": {"beta": 0.3},
}
COLUMNS = {
    "sample_id": ["a", "b"],
    "accurate": [True, False],
    "robust@1/255": [True, False],
    "robust@2/255": [False, False],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one record of before there were checksums."""
    run = tmp_path_factory.mktemp("run")
    record = make_record(RecordMeta("m", "d/test", "apgd", "linf", ("1/255", "2/255")), COLUMNS)
    folder = write_record(run / RECORDS, record)
    folder.rename(folder.with_name("kept"))
    return run


@fuzzed
@given(text=texts(META_FIELDS))
def test_meta(place: Path, text: bytes) -> None:
    (place / RECORDS / "kept" / META).write_bytes(text)
    assert answered(read_record, place / RECORDS / "kept")


@fuzzed
@given(fields=bent(to_fields({"m": Answers(((1.0, None), (0.5, 0.25)), 0.0, 5e-3)})))
def test_answers(place: Path, fields: Any) -> None:
    path = place / ANSWERS
    path.write_bytes(sealed(fields) if isinstance(fields, dict) else json.dumps(fields).encode())
    assert answered(read_answers, path)


KINDS = [
    pl.Series([], dtype=pl.String),
    pl.Series([1, None]),
    pl.Series([1 << 63], dtype=pl.UInt64),
    pl.Series([math.nan, math.inf]),
    pl.Series([[1], []]),
    pl.Series([{"a": 1}]),
    pl.Series([b"\xff"]),
    pl.Series(["a", "a"]),
    pl.Series(["a"], dtype=pl.Categorical),
    pl.Series(["a"], dtype=pl.Enum(["a"])),
    pl.Series([None], dtype=pl.Null),
    pl.Series([1], dtype=pl.Date),
    pl.Series([1], dtype=pl.Duration("ms")),
    pl.Series(["1.5"]).cast(pl.Decimal(10, 2)),
    pl.Series([True, None, False]),
    pl.Series([np.float32(0.1)], dtype=pl.Float32),
]
HEADS = [
    *COLUMNS,
    "label",
    "radius",
    "recheck",
    "robust@1e99999999",
    "robust@",
    "robust@nan",
    "robust@1/0",
    "@",
    "record",
    "\n",
]


@st.composite
def frames(draw: Callable[..., Any]) -> pl.DataFrame:
    """Tables with some of a record's columns, of any type and length."""
    names = draw(st.lists(st.sampled_from(HEADS), unique=True, max_size=5))
    found = {name: draw(st.sampled_from(KINDS)) for name in names}
    rows = draw(st.integers(0, 3))
    some = {name: kind.extend_constant(None, 3).head(rows) for name, kind in found.items()}
    return pl.DataFrame(some)


def written(frame: pl.DataFrame, notes: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, metadata=notes)
    return buffer.getvalue()


@fuzzed
@given(frame=frames())
def test_shards(place: Path, frame: pl.DataFrame) -> None:
    folder = place / RECORDS / "kept"
    (folder / META).write_text(json.dumps(META_FIELDS))
    for path in folder.glob("shard-*"):
        path.unlink()
    data = written(frame)
    (folder / shard_name(0, checksum(data))).write_bytes(data)
    assert answered(read_record, folder)


@fuzzed
@given(
    notes=bent([{"name": "m-1", "columns": [*COLUMNS], "meta": META_FIELDS, "answers": None}]),
    frame=st.one_of(st.just(pl.DataFrame(COLUMNS)), frames()),
)
def test_packs(place: Path, notes: Any, frame: pl.DataFrame) -> None:
    named = frame.with_columns(pl.lit("m-1").alias("record"))
    mark = "recuse checksum "
    texts = {NOTES: sealed({"records": notes}).decode(), SEAL: f"{mark}{'0' * 16}"}
    data = written(named, texts)
    at = data.rindex(mark.encode()) + len(mark)
    path = place / PACK
    path.write_bytes(data[:at] + checksum(data).encode() + data[at + 16 :])
    assert answered(read_pack, path)


@pytest.mark.parametrize("name", ["digits", "cifar10_small"])
def test_configs(place: Path, name: str) -> None:
    whole = json.loads((RESULTS / name / CONFIG).read_text())
    whole["models"] = whole["models"][:3]

    @fuzzed
    @given(text=texts(whole))
    def read(text: bytes) -> None:
        (place / "any.json").write_bytes(text)
        assert answered(read_run_config, place / "any.json")

    read()


@pytest.mark.types_checked_elsewhere
@pytest.mark.parametrize("odd", [None, True, 3, "x"])
def test_a_config_of_a_contract_takes_no_bare_value(place: Path, odd: object) -> None:
    whole = json.loads((RESULTS / "digits" / CONFIG).read_text())
    whole["models"][0]["start"]["architecture"] = odd
    (place / "any.json").write_text(json.dumps(whole))
    with pytest.raises(RecuseError, match="'architecture' of 'Fresh' must be"):
        read_run_config(place / "any.json")


RATES = [{"name": "a → b", "eps": "2/255", "attacked": 0.5, "images": 100, "kind": "robust"}]
EPOCH = {"epoch": 1, "loss": 0.5, "natural_accuracy": 0.9}


@fuzzed
@given(rates=texts(RATES), config=texts({"eps": [0.1, "2/255"], "page": "x"}), log=texts(EPOCH))
def test_run_folders(place: Path, rates: bytes, config: bytes, log: bytes) -> None:
    folder = place / RECORDS / "kept"
    (folder / META).write_text(json.dumps(META_FIELDS))
    for path in folder.glob("shard-*"):
        path.unlink()
    (place / COMPOSITION_RATES).write_bytes(rates)
    (place / CONFIG).write_bytes(config)
    (place / TRAINING).mkdir(exist_ok=True)
    (place / TRAINING / "m.jsonl").write_bytes(log + b"\n" + json.dumps(EPOCH).encode())
    assert answered(lambda: read_run(place).eps)
    assert answered(read_compositions, place / COMPOSITION_RATES)
    for path in (COMPOSITION_RATES, CONFIG, f"{TRAINING}/m.jsonl"):
        (place / path).unlink()


@fuzzed
@given(frame=frames(), raw=st.one_of(st.sampled_from(RAW), st.binary(max_size=64)))
def test_pictures(place: Path, frame: pl.DataFrame, raw: bytes) -> None:
    (place / RECORDS / "kept" / META).write_text(json.dumps(META_FIELDS))
    (place / GALLERY).mkdir(exist_ok=True)
    (place / GALLERY / GALLERY_PICTURES).write_bytes(written(frame))
    assert answered(read_run, place)
    (place / GALLERY / GALLERY_PICTURES).write_bytes(raw)
    assert answered(read_run, place)
    (place / GALLERY / GALLERY_PICTURES).unlink()
    (place / REGIONS).write_bytes(raw)
    assert answered(read_run, place)
    (place / REGIONS).unlink()


LOG = b"sample_idx,m_is_acc,m_is_rob1_255,m_is_rob2_255,m_pred\n0,1,1,0,3\n1,0,0,0,8\n"


@st.composite
def cut(draw: Callable[..., Any], whole: bytes) -> bytes:
    """Bytes with a stretch of them exchanged for others."""
    first = draw(st.integers(0, len(whole)))
    last = draw(st.integers(first, min(len(whole), first + 12)))
    return whole[:first] + draw(st.binary(max_size=6)) + whole[last:]


@fuzzed
@given(text=st.one_of(cut(LOG), st.sampled_from(RAW)), frame=frames())
def test_published_logs(place: Path, text: bytes, frame: pl.DataFrame) -> None:
    logs = place / "logs"
    log = logs / "raw" / "cifar10" / "Linf" / "m" / "testset_cifar10_Linf_apgd.csv"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(LOG)
    assert len(load_records(logs)) == 1
    log.write_bytes(text)
    assert answered(load_records, logs)
    tidy = frame.with_columns(pl.lit("a").alias("log"), pl.lit(0).alias("sample_idx"))
    (logs / "tidy.parquet").write_bytes(written(tidy))
    assert answered(load_records, logs)
    (logs / "tidy.parquet").unlink()


MTSD = {
    "width": 100,
    "height": 80,
    "objects": [
        {
            "key": "k",
            "label": "stop",
            "bbox": {"xmin": 1.0, "ymin": 2.0, "xmax": 9.0, "ymax": 8.0},
            "properties": {"occluded": False},
        }
    ],
}
COCO = {
    "categories": [{"id": 1, "name": "stop"}],
    "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 80}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 8, 6], "iscrowd": 0},
    ],
}


@fuzzed
@given(
    annotation=texts(MTSD),
    listing=st.one_of(st.just(b"a\n"), st.sampled_from(RAW), st.binary(max_size=16)),
)
def test_mtsd(place: Path, annotation: bytes, listing: bytes) -> None:
    for folder in ("annotations", "splits"):
        (place / "mtsd" / folder).mkdir(parents=True, exist_ok=True)
    (place / "mtsd" / "annotations" / "a.json").write_bytes(annotation)
    (place / "mtsd" / "splits" / "train.txt").write_bytes(listing)
    assert answered(LAYOUTS["mtsd"], place / "mtsd", "train")


@fuzzed
@given(annotation=texts(COCO))
def test_coco(place: Path, annotation: bytes) -> None:
    (place / "coco" / "annotations").mkdir(parents=True, exist_ok=True)
    (place / "coco" / "annotations" / "train.json").write_bytes(annotation)
    assert answered(LAYOUTS["coco"], place / "coco", "train")


TYPED = "1 -1 0.3 2/255 1/0 1e400 1e99999999 1e-99999999 nan inf 1_0 ٣ 0x1 1e -- 1/1/1"
DIGITS = "9" * 5000
NUMBERS = st.sampled_from([*TYPED.split(), DIGITS, f"1/{DIGITS}", "", " ", "\ud800", "\0"])
NAMES = """era trades apgd pgd square ensemble indicator digits small none true linf radius beta
robust steps loss attack kind size seed"""
WORDS = st.sampled_from(NAMES.split())
MARKS = st.sampled_from(["(", ")", "[", "]", ",", "=", "'", '"', ":", " "])


@fuzzed
@given(
    text=st.lists(st.one_of(NUMBERS, WORDS, MARKS), max_size=12).map("".join),
    family=st.sampled_from(["objective", "attack", "selector", "schedule", "architecture", "data"]),
)
def test_values(text: str, family: str) -> None:
    assert answered(VOCABULARY.read, text, family)


@fuzzed
@given(value=NUMBERS, field=WORDS, name=WORDS)
def test_values_with_one_odd_field(value: str, field: str, name: str) -> None:
    for family in ("objective", "attack", "selector"):
        assert answered(VOCABULARY.read, f"{name}({field}={value})", family)


@fuzzed
@given(
    norm=st.one_of(st.sampled_from(["linf", "l2", "LINF ", "", "l\ud800"]), st.text(max_size=4)),
    eps=st.one_of(NUMBERS, st.text(max_size=6)),
)
def test_threats_and_radii(norm: str, eps: str) -> None:
    assert answered(Threat.parse, f"{norm}:{eps}")
    assert answered(Threat.parse, eps)
    assert answered(parse_radius, eps)


@pytest.mark.parametrize("text", ["1e99999999", "1e-99999999", "1e400", DIGITS, f"1/{DIGITS}"])
def test_numbers_of_many_digits_are_read_at_once(text: str) -> None:
    start = time.perf_counter()
    assert answered(parse_radius, text)
    assert answered(VOCABULARY.read, f"era(beta={text})", "objective")
    assert answered(VOCABULARY.read, f"apgd(steps={text})", "attack")
    assert time.perf_counter() - start < 2


def test_a_sentence_is_one_line_whatever_it_is_about() -> None:
    assert answered(Threat.parse, "\x850")
    assert str(DamagedError(Path("a"), "first\nsecond", "do this")) == (
        "a is damaged (first); do this"
    )


def test_what_was_found_once(place: Path) -> None:
    (place / RECORDS / "kept" / META).write_text(json.dumps(META_FIELDS))
    (place / TRAINING).mkdir(exist_ok=True)
    found = {
        REGIONS: b"",
        f"{TRAINING}/m.jsonl": b"[" * 2000,
        COMPOSITION_RATES: json.dumps([RATES[0] | {"attacked": 10**400}]).encode(),
    }
    for name, text in found.items():
        (place / name).write_bytes(text)
        with pytest.raises(RecuseError, match=Path(name).name):
            read_run(place)
        (place / name).unlink()
    signs = place / "signs"
    for folder in ("annotations", "splits"):
        (signs / folder).mkdir(parents=True)
    infinite = MTSD | {"width": math.inf}
    for listing, text in (
        (b"a", json.dumps(infinite).encode()),
        (b"a", b"[" * 2000),
        (b"\xff\xfe", b"{}"),
        (b"a" * 300, b"{}"),
    ):
        (signs / "annotations" / "a.json").write_bytes(text)
        (signs / "splits" / "train.txt").write_bytes(listing)
        with pytest.raises(RecuseError, match=r"a\.json|train\.txt"):
            LAYOUTS["mtsd"](signs, "train")
