"""Images that stay in their files are the same data as in memory, wherever they are asked for."""

import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from recuse.attacks import Pgd
from recuse.data import Source, Split, Splits, on_demand, source_at, split
from recuse.data import lazy as lazy_parts
from recuse.data.decode import to_unit_interval
from recuse.data.encoded_images import WORKERS
from recuse.data.lazy import LazySplit, join
from recuse.data.on_demand import HELD_LIMIT
from recuse.data.parquet import ParquetFiles, read_table
from recuse.data.sources import TrainTest, load_part, read_as
from recuse.engine import Engine, InProcess, Processes
from recuse.errors import DataError
from recuse.evaluation import Evaluation, evaluate
from recuse.records.hashes import record_hash
from recuse.threat import Threat
from recuse.training import Standard, TrainConfig, fit
from recuse.training.batches import Batches
from recuse.training.processes import Processes as Peers

from .conftest import Writer, png, random_pixels
from .test_reading import decoded, fill, in_parts, one_file, shards

Make = Callable[[Path, Writer], Path]
__all__ = ["decoded"]


def pool_of_files(path: Path, write: Writer) -> Path:
    return fill(path / "pool", images=30)


def several_files(path: Path, write: Writer) -> Path:
    for number, count in enumerate((7, 30, 11)):
        blobs = [png(p) for p in random_pixels(count, 6, 6, 3, seed=number)]
        (path / "several").mkdir(exist_ok=True)
        write(blobs, [i % 2 for i in range(count)], file=f"several/{number}.parquet")
    return path / "several"


MAKES: list[Make] = [in_parts, pool_of_files, one_file, several_files, shards]


@pytest.fixture(autouse=True)
def _on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No image is held, however few there are."""
    monkeypatch.setenv(HELD_LIMIT, "0")


def held(source: Source) -> Splits:
    """The same data in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(HELD_LIMIT)
        return source.load()


def both(source: Source) -> Iterator[tuple[Split, Split]]:
    lazy, memory = source.load(), held(source)
    assert lazy.note == memory.note
    for part in ("train", "validation", "test"):
        yield getattr(lazy, part), getattr(memory, part)


def assert_same(lazy: Split, memory: Split) -> None:
    assert isinstance(lazy, LazySplit)
    assert not isinstance(memory, LazySplit)
    assert (lazy.name, lazy.ids, lazy.label_names) == (memory.name, memory.ids, memory.label_names)
    assert lazy.remarks == memory.remarks
    assert lazy.skipped == memory.skipped
    assert (len(lazy), lazy.shape) == (len(memory), memory.shape)
    assert torch.equal(lazy.labels, memory.labels)
    assert torch.equal(lazy.images, memory.images)
    assert lazy.images.dtype == torch.float32
    assert lazy.fingerprint() == memory.fingerprint()
    assert lazy.row_fingerprints() == memory.row_fingerprints()


@pytest.mark.parametrize("workers", ["0", "1", "3"])
@pytest.mark.parametrize("make", MAKES)
def test_every_reader_gives_the_same_data(
    make: Make, workers: str, tmp_path: Path, write_parquet: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORKERS, workers)
    source = source_at(make(tmp_path, write_parquet))
    for lazy, memory in both(source):
        assert_same(lazy, memory)
        rows = torch.randperm(len(memory)).tolist()[: len(memory) // 2 + 1]
        assert_same(lazy.take(rows), memory.take(rows))
        assert_same(lazy.head(2).renamed("x"), memory.head(2).renamed("x"))
        for size in (1, 3, 1000):
            parts = list(lazy.batches(size))
            assert not any(isinstance(part, LazySplit) for part in parts)
            for part, other in zip(parts, memory.batches(size), strict=True):
                assert (part.ids, part.name) == (other.ids, other.name)
                assert torch.equal(part.images, other.images)
            for part, other in zip(lazy.cuts(size), memory.cuts(size), strict=True):
                assert_same(part, other)
        lists = [rows[::2], [], rows[:1]]
        for part, other in zip(lazy.parts(lists), memory.parts(lists), strict=True):
            assert torch.equal(part.images, other.images)
        assert_same(pickle.loads(pickle.dumps(lazy)), memory)


@pytest.mark.parametrize("make", [pool_of_files, several_files])
def test_data_of_many_windows_are_the_same(
    make: Make, tmp_path: Path, write_parquet: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (on_demand, lazy_parts):
        monkeypatch.setattr(module, "FETCHED", 11)
    monkeypatch.setattr(split, "_HASHED_BYTES", 4 * 108 * 4)
    source = source_at(make(tmp_path, write_parquet))
    lazy, _ = load_part(source, "all")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(HELD_LIMIT)
        memory, _ = load_part(source, "all")
    assert_same(lazy, memory)
    assert_same(lazy.take([*range(len(memory))]), memory)
    for size in (4, 13):
        for part, other in zip(lazy.batches(size), memory.batches(size), strict=True):
            assert torch.equal(part.images, other.images)


@pytest.mark.parametrize("make", MAKES)
def test_all_parts_together_are_the_same(make: Make, tmp_path: Path, write_parquet: Writer) -> None:
    source = source_at(make(tmp_path, write_parquet))
    lazy, note = load_part(source, "all")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(HELD_LIMIT)
        memory, said = load_part(source, "all")
    assert_same(lazy, memory)
    assert note == said
    order = torch.randperm(len(memory)).tolist()
    assert_same(lazy.take(order).take(order[::3]), memory.take(order).take(order[::3]))
    assert_same(pickle.loads(pickle.dumps(lazy.take(order))), memory.take(order))


def test_a_part_in_files_joins_one_in_memory(tmp_path: Path) -> None:
    source = source_at(fill(tmp_path / "pool", images=30))
    lazy, memory = source.load(), held(source)
    whole = join(memory.train, memory.validation, name="both")
    for first, second in ((lazy.train, memory.validation), (memory.train, lazy.validation)):
        mixed = join(first, second, name="both")
        assert_same(mixed, whole)
        rows = [len(whole) - 1, 0, 5, len(whole) - 2]
        assert_same(mixed.take(rows), whole.take(rows))
        assert_same(mixed.take([0]), whole.take([0]))


def test_a_data_set_to_train_on_and_one_to_judge(tmp_path: Path) -> None:
    train = fill(tmp_path / "one", images=30)
    test = fill(tmp_path / "two", "ab", 9, seed=7)
    for lazy, memory in both(TrainTest(source_at(train), source_at(test))):
        assert_same(lazy, memory)


def test_only_what_is_asked_for_is_decoded(tmp_path: Path, decoded: list[str]) -> None:
    lazy = source_at(fill(tmp_path / "pool", images=100)).load().train
    assert decoded
    decoded.clear()
    rows = lazy.renamed("x").take(range(20)).head(12)
    relabelled = rows.relabelled(("b", "a"))
    both_parts = join(rows, lazy.take(range(20, 30)), name="both").take([0, 21])
    assert [len(part) for part in both_parts.cuts(1)] == [1, 1]
    assert lazy.row_fingerprints()[0]
    assert "in their files" in repr(lazy)
    assert relabelled.labels.tolist() == (1 - rows.labels).tolist()
    pickle.dumps(lazy)
    assert not decoded
    assert len(both_parts.images) == len(decoded) == 2


def test_no_more_than_the_next_part_is_decoded_ahead(tmp_path: Path, decoded: list[str]) -> None:
    lazy = source_at(fill(tmp_path / "pool", images=150)).load().train
    decoded.clear()
    parts = lazy.batches(10)
    for number in range(1, 4):
        next(parts)
        assert 10 * number <= len(decoded) <= 10 * (number + 1)
    parts.close()
    assert len(decoded) <= 40


def test_a_piece_for_another_process_says_where_its_images_are(tmp_path: Path) -> None:
    pixels = random_pixels(64, 32, 32, 3)
    for row, image in enumerate(pixels):
        (tmp_path / "p" / "ab"[row % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / "ab"[row % 2] / f"{row:03d}.png").write_bytes(png(image))
    lazy, _ = load_part(source_at(tmp_path / "p"), "all")
    piece = next(lazy.cuts(8))
    assert len(pickle.dumps(piece)) < 3_000 < pixels[:8].nbytes
    assert torch.equal(pickle.loads(pickle.dumps(piece)).images, lazy.head(8).images)


def test_what_cannot_be_read_is_found_and_left_out_alike(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", images=20)
    (folder / "a" / "0.png").write_bytes(b"not an image")
    whole = (folder / "b" / "3.png").read_bytes()
    (folder / "b" / "3.png").write_bytes(whole[:70])  # its header is right
    source = source_at(folder)
    with pytest.raises(DataError, match=r"a/0\.png: the image is truncated or not"):
        source.load()
    for lazy, memory in both(read_as(source, skip_unreadable=True)):
        assert_same(lazy, memory)
        assert len(lazy.skipped) == 2
    lazy, _ = load_part(read_as(source, skip_unreadable=True, limit=5), "test")
    assert len(lazy) == 5


def test_another_size_and_wrong_labels_are_refused_alike(
    tmp_path: Path, write_parquet: Writer
) -> None:
    folder = fill(tmp_path / "photos")
    (folder / "b" / "5.png").write_bytes(png(random_pixels(1, 9, 7, 3)[0]))
    with pytest.raises(DataError, match=r"b/5\.png: the image is 7x9, the first is 6x6.*--size"):
        source_at(folder).load()
    for lazy, memory in both(read_as(source_at(folder), size=4, channels=1)):
        assert_same(lazy, memory)
    blobs = [png(p) for p in random_pixels(2, 6, 6, 3)]
    wrong = write_parquet(blobs, [0, 2], names=["cat", "dog"])
    with pytest.raises(DataError, match=r"images\.parquet: images: label 2 of row 1 is outside"):
        ParquetFiles(wrong).load_pool()


def test_files_that_change_or_vanish_are_one_sentence(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", images=30)
    lazy, _ = load_part(source_at(folder), "all")
    file = folder / "b" / "7.png"
    own = file.read_bytes()
    for data, says in (
        (png(random_pixels(1, 6, 6, 3, seed=9)[0]), "is not the one that was there when"),
        (png(random_pixels(1, 5, 6, 3)[0]), "the image is 6x5, the first is 6x6"),
        (own[:60], "truncated"),
        (None, "No such file"),
    ):
        file.unlink()
        if data is not None:
            file.write_bytes(data)
        with pytest.raises(DataError, match=rf"b/7\.png: .*{says}") as caught:
            list(lazy.batches(4))
        assert "\n" not in str(caught.value)
        file.write_bytes(own)
    Image.open(file).save(file, compress_level=0)  # another file of the same pixels
    assert file.read_bytes() != own
    assert lazy.images.shape == (60, 3, 6, 6)


def test_parquet_that_changes_is_one_sentence(tmp_path: Path, write_parquet: Writer) -> None:
    blobs = [png(p) for p in random_pixels(40, 6, 6, 3)]
    path = write_parquet(blobs, [0, 1] * 20)
    lazy = ParquetFiles(path).load_pool()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"images\.parquet is truncated or not a parquet file"):
        list(lazy.batches(8))
    write_parquet(blobs[:20], [0, 1] * 10)
    with pytest.raises(DataError, match=r"images\.parquet has fewer rows than when it was first"):
        list(lazy.batches(40))
    write_parquet(blobs[::-1], [0, 1] * 20)
    with pytest.raises(DataError, match=r"images\.parquet, row 0: the image is not the one"):
        list(lazy.batches(8))
    path.unlink()
    with pytest.raises(DataError, match=r"images\.parquet is truncated or .*No such file"):
        list(lazy.batches(8))


@pytest.mark.parametrize("group", [9, 1000])
def test_rows_of_parquet_in_any_order(tmp_path: Path, group: int) -> None:
    for number, count in enumerate((300, 1, 450)):
        blobs = [f"{number} {row}".encode() for row in range(count)]
        frame = pl.DataFrame({"image": blobs, "label": [row % 2 for row in range(count)]})
        frame.write_parquet(tmp_path / f"{number}.parquet", row_group_size=group)
    stored = read_table(tmp_path).blobs
    whole = stored.read()
    assert len(whole) == 751
    assert (whole[0], whole[299], whole[300], whole[301]) == (b"0 0", b"0 299", b"1 0", b"2 0")
    drawn = np.random.default_rng(0)
    for count in (0, 1, 2, 9, 200):
        rows = drawn.integers(0, 751, count).tolist()
        assert stored.take(rows).read() == [whole[row] for row in rows]
        assert stored.take(range(751)).take(rows).read() == [whole[row] for row in rows]


def linear() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(108, 2))


def judged(split: Split, records: Path, engine: Engine) -> str:
    model = linear()
    plan = Evaluation("linf", (4 / 255, 8 / 255), Pgd(steps=2), batch_size=7, recheck=None)
    found = evaluate(model, split, plan, name="net", records=records, engine=engine)
    return f"{found.meta.key} {record_hash(found)}"


@pytest.mark.parametrize("make", [pool_of_files, several_files])
def test_an_evaluation_has_the_same_record(
    make: Make, tmp_path: Path, write_parquet: Writer
) -> None:
    source = source_at(make(tmp_path, write_parquet))
    ((lazy, memory),) = [pair for pair in both(source) if pair[0].name.endswith("train")]
    expected = judged(memory, tmp_path / "memory", InProcess())
    assert judged(lazy, tmp_path / "here", InProcess()) == expected
    assert judged(lazy, tmp_path / "cut", InProcess(11)) == expected
    assert judged(lazy, tmp_path / "memory", InProcess()) == expected  # goes on, nothing to do


def test_an_evaluation_on_two_processes_has_the_same_record(tmp_path: Path) -> None:
    source = source_at(fill(tmp_path / "pool", images=30))
    expected = judged(held(source).test, tmp_path / "memory", InProcess())
    assert judged(source.load().test, tmp_path / "two", Processes(2, 5)) == expected


def test_a_file_replaced_during_an_evaluation_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "pool", images=30)
    lazy, _ = load_part(source_at(folder), "all")
    (folder / "b" / "29.png").write_bytes(png(random_pixels(1, 6, 6, 3, seed=9)[0]))
    with pytest.raises(DataError, match=r"b/29\.png: the image is not the one"):
        judged(lazy, tmp_path / "records", InProcess())


def trained(splits: Splits, out: Path) -> torch.Tensor:
    model = linear()
    config = TrainConfig(Standard(), Threat("linf", 0.01), epochs=2, batch_size=8, extra_share=0.25)
    extra = splits.test
    found = fit(model, splits.train, splits.validation, config, out, extra=extra).model
    return torch.cat([p.flatten() for p in found.parameters()])


@pytest.mark.parametrize("workers", ["0", "1", "2"])
@pytest.mark.parametrize("make", [pool_of_files, several_files])
def test_training_ends_at_the_same_weights(
    make: Make, workers: str, tmp_path: Path, write_parquet: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORKERS, workers)
    source = source_at(make(tmp_path, write_parquet))
    memory = trained(held(source), tmp_path / "memory")
    assert torch.equal(trained(source.load(), tmp_path / "lazy"), memory)
    # a run that began in memory goes on without
    assert torch.equal(trained(source.load(), tmp_path / "memory"), memory)


def test_processes_that_train_together_decode_each_image_once(
    tmp_path: Path, decoded: list[str]
) -> None:
    source = source_at(fill(tmp_path / "pool", images=30))
    lazy, memory = source.load(), held(source)
    peers = [Peers(index=i, count=2) for i in range(2)]
    for extra in (None, "validation"):
        more, held_more = (extra and getattr(part, extra) for part in (lazy, memory))
        own, theirs = (
            Batches(part.train, 8, 0, other, 0.25 if extra else 0.0)
            for part, other in ((lazy, more), (memory, held_more))
        )
        rows = sum(batch.whole for batch in theirs.epoch(0))
        for peer in peers:
            decoded.clear()
            deal = peer.deal(2)
            for here, there in zip(
                own.epoch(0, deal=deal), theirs.epoch(0, deal=deal), strict=True
            ):
                assert (here.ids, here.whole) == (there.ids, there.whole)
                assert torch.equal(here.images, there.images)
            assert abs(len(decoded) - rows / 2) <= len(own)


def test_settings_that_are_no_numbers_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_at(fill(tmp_path / "pool"))
    monkeypatch.setenv(WORKERS, "many")
    with pytest.raises(DataError, match="RECUSE_DECODE_WORKERS is 'many'; give a number of thr"):
        source.load()
    for odd in ("inf", "nan", "-1"):
        monkeypatch.setenv(WORKERS, odd)
        with pytest.raises(DataError, match=f"RECUSE_DECODE_WORKERS is '{odd}'"):
            source.load()
    monkeypatch.setenv(HELD_LIMIT, "all")
    with pytest.raises(DataError, match="RECUSE_MAX_GIBIBYTES is 'all'; give a number of gib"):
        source.load()


def test_reading_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []

    def tell(task: str, done: int, total: int, note: str = "") -> None:
        told.append((task, done, total))

    source = source_at(fill(tmp_path / "pool", images=30))
    listening = read_as(source, progress=tell)
    assert listening == source
    parts = listening.load()
    assert told[-1] == ("read pool", 60, 60)
    told.clear()
    parts.test.fingerprint(tell)
    assert told[-1] == ("read pool/test", len(parts.test), len(parts.test))
    told.clear()
    parts.test.fingerprint(tell)
    assert not told


def test_data_that_fit_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_at(fill(tmp_path / "pool", images=30))
    for limit, lazy in ((60 * 108 * 4 / 2**30, False), (60 * 108 * 4 / 2**30 * 0.999, True)):
        monkeypatch.setenv(HELD_LIMIT, str(limit))
        assert isinstance(load_part(source, "all")[0], LazySplit) is lazy


def test_few_images_are_in_memory_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    def watched(pixels: np.ndarray) -> torch.Tensor:
        nonlocal most
        images = to_unit_interval(pixels)
        alive.add(images)
        most = max(most, sum(map(len, alive)))
        return images

    lazy, _ = load_part(source_at(fill(tmp_path / "pool", images=150)), "all")
    monkeypatch.setattr(on_demand, "to_unit_interval", watched)
    monkeypatch.setattr(split, "_HASHED_BYTES", 8 * 108 * 4)
    judged(lazy, tmp_path / "records", InProcess())
    trained(Splits(lazy, lazy.head(10), lazy.head(10)), tmp_path / "training")
    assert 16 <= most <= 50  # some batches of 7 or 8, the first 16, and the probed 32


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """300 images of 224 pixels are 172 MiB of floats; 60 were judged before in the same process."""
    pictures = [png(p, "JPEG") for p in random_pixels(5, 224, 224, 3)]
    for folder, count in (("few", 60), ("many", 300)):
        for row in range(count):
            place = tmp_path / folder / "ab"[row % 2]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{row}.jpg").write_bytes(pictures[row % 5])
    script = (
        "import resource, sys; from pathlib import Path; import torch\n"
        "from recuse.attacks import Pgd; from recuse.data.sources import load_part, source_at\n"
        "from recuse.evaluation import Evaluation, evaluate\n"
        "net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(150528, 2)).eval()\n"
        "plan = Evaluation('linf', (0.01,), Pgd(steps=1), recheck=None)\n"
        "for name in ('few', 'many'):\n"
        "    split, _ = load_part(source_at(Path(sys.argv[1]) / name), 'all')\n"
        "    evaluate(net, split, plan, name=name, records=Path(sys.argv[1]) / 'records')\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    run = [sys.executable, "-c", script, str(tmp_path)]
    printed = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    few, many = map(int, printed.split())
    assert many < few + 60
