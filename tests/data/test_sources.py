import hashlib
import io
import pickle
import struct
import tarfile
from dataclasses import replace
from pathlib import Path
from zlib import compress, crc32

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import recuse.data as rooms
from recuse.data.cifar import CIFAR10_ARCHIVE, Archive, Cifar10, Cifar100, read_archive, unpickle
from recuse.data.decode import Decoding
from recuse.data.folder import ImageFolder
from recuse.data.gtsrb import Gtsrb, hold_out_tracks, sign_boxes
from recuse.data.mnist import Mnist
from recuse.data.parquet import ParquetFiles, read_table
from recuse.data.sources import DATASETS, Source, find_data_root, source
from recuse.errors import ConfigError, DataError

from .conftest import Writer, png, random_pixels


def _one_sentence(error: pytest.ExceptionInfo[DataError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_the_table_holds_exactly_the_public_sources() -> None:
    public = {
        value for name in rooms.__all__ if isinstance(value := getattr(rooms, name), type)
    } - {rooms.Source, rooms.Split, rooms.Splits}
    public -= {rooms.Subset}  # it is of a source, and goes by no name
    assert set(DATASETS.values()) == {cls for cls in public if hasattr(cls, "load_test")}
    assert all(issubclass(cls, Source) for cls in DATASETS.values())


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(DataError, match="'cifar' is unknown; known: digits, gaussians, cifar10"):
        source("cifar")
    with pytest.raises(DataError, match="needs its paths"):
        source("parquet")
    assert source("digits") == rooms.Digits()


def test_the_data_root_is_the_option_then_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECUSE_DATA", raising=False)
    assert find_data_root() is None
    monkeypatch.setenv("RECUSE_DATA", str(tmp_path))
    assert find_data_root() == tmp_path
    (tmp_path / "other").mkdir()
    assert find_data_root(tmp_path / "other") == tmp_path / "other"
    with pytest.raises(DataError, match=r"nowhere given by --data-root does not exist"):
        find_data_root(tmp_path / "nowhere")
    monkeypatch.setenv("RECUSE_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="gone given by RECUSE_DATA does not exist"):
        find_data_root()


def test_settings_of_a_named_set_are_typed_as_those_of_everything_else() -> None:
    assert source("gtsrb(crop=true, slack=0.2)") == Gtsrb(crop=True, slack=0.2)
    assert source("gtsrb") == Gtsrb()
    with pytest.raises(ConfigError, match="'gtsrb' has no field 'crops'; it has size"):
        source("gtsrb(crops=true)")
    with pytest.raises(ConfigError, match="crop is False"):
        source("gtsrb(slack=0.2)")
    with pytest.raises(DataError, match="is unknown; known: digits"):
        source("gtrsb(crop=true)")


@pytest.mark.parametrize(
    ("data", "file"),
    [
        (Cifar10(), "cifar10_jpeg_train.parquet"),
        (Cifar10(train="official"), "cifar-10-python.tar.gz"),
        (Cifar100(), "cifar-100-python.tar.gz"),
        (Gtsrb(), "gtsrb_train.parquet"),
        (Mnist(), "mnist_train.parquet"),
        (ParquetFiles(Path("a.parquet"), Path("b.parquet")), "a.parquet"),
        (ParquetFiles(Path("a.parquet")), "a.parquet"),
    ],
    ids=repr,
)
def test_a_missing_set_says_what_is_expected_where(
    data: Source, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECUSE_DATA", raising=False)
    with pytest.raises(DataError, match=file) as error:
        data.load(tmp_path)
    assert str(tmp_path) in _one_sentence(error)
    with pytest.raises(DataError, match="set RECUSE_DATA or pass --data-root") as error:
        data.load(None)
    assert file in _one_sentence(error)


def test_without_a_folder_the_variable_names_it(
    write_parquet: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = [png(p) for p in random_pixels(60, 8, 8, 3)]
    for part, rows in (("jpeg_train", slice(0, 40)), ("lossless_test", slice(40, 60))):
        labels = [i % 2 for i in range(60)][rows]
        write_parquet(blobs[rows], labels, file=f"cifar10_{part}.parquet")
    monkeypatch.setenv("RECUSE_DATA", str(tmp_path))
    parts = source("cifar10").load()
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [36, 4, 20]
    assert len(source("cifar10").load_test()) == 20
    assert len(ParquetFiles(Path("cifar10_jpeg_train.parquet")).load_pool()) == 40
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz is missing"):
        Cifar10(train="official").load()


def test_mixed_cifar10_is_lossless_where_it_can_be(write_parquet: Writer, tmp_path: Path) -> None:
    blobs = [png(p) for p in random_pixels(44, 8, 8, 3)]
    labels = [i % 2 for i in range(40)]
    write_parquet(blobs[:40], labels, file="cifar10_jpeg_test.parquet")
    write_parquet(blobs[40:42], [1, 0], file="cifar10_lossless_test.parquet", index=[7, 2])
    mixed = Cifar10(test="mixed").load_test(tmp_path)
    jpeg, lossless = (Cifar10(test=kind).load_test(tmp_path) for kind in ("jpeg", "lossless"))
    assert mixed.ids == jpeg.ids
    assert torch.equal(mixed.labels, jpeg.labels)
    assert torch.equal(mixed.images[[7, 2]], lossless.images)
    same = (mixed.images == jpeg.images).flatten(1).all(dim=1)
    assert (~same).nonzero().flatten().tolist() == [2, 7]
    for index, label, says in ((40, 0, "no image 'cifar10/test/00040'"), (3, 0, "labels")):
        file = "cifar10_lossless_test.parquet"
        write_parquet(blobs[40:42], [label, 1], file=file, index=[index, 7])
        with pytest.raises(DataError, match=says):
            Cifar10(test="mixed").load_test(tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("x1", None, r"no column x1; .*gtsrb\(crop=false\)"),
        ("track", None, "no column track"),
        ("track", [0, None], "row 1 holds no whole numbers in track, but None"),
        ("x1", [0, None], "row 1 holds no whole numbers in x1, y1, x2, y2, but None, 0, 9, 9"),
        ("y1", ["0", "0"], "row 0 holds no whole numbers"),
        ("y1", [0.0, float("nan")], "row 1 holds no whole numbers"),
        ("y1", [0.0, 0.5], "row 1 holds no whole numbers"),
        ("x2", [9, -1], r"row 1 holds no box of pixels \(x1 y1 x2 y2 = 0 0 -1 9\)"),
    ],
)
def test_signs_without_boxes_are_one_sentence(
    column: str, values: list[object] | None, said: str, tmp_path: Path
) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (10, 10)).save(picture, "PNG")
    image = {"bytes": picture.getvalue(), "path": "a.png"}
    columns = {"label": [0, 1], "x1": [0, 0], "y1": [0, 0], "x2": [9, 9], "y2": [9, 9]}
    columns |= {"track": [0, 1]} | ({} if values is None else {column: values})
    frame = pl.DataFrame({"img": [image] * 2, **columns})
    frame = frame.drop(column) if values is None else frame
    for part in ("train", "test"):
        frame.write_parquet(tmp_path / f"gtsrb_{part}.parquet")
    with pytest.raises(DataError, match=said):
        Gtsrb(crop=True).load(tmp_path)


def test_slack_enlarges_the_boxes_of_signs_within_their_images(
    write_parquet: Writer, tmp_path: Path
) -> None:
    pixels = random_pixels(3, 40, 40, 3)
    box = {"x1": [10] * 3, "y1": [10, 0, 30], "x2": [29] * 3, "y2": [29, 39, 39]}
    size = {"width": [40] * 3, "height": [40] * 3}
    table = read_table(
        write_parquet([png(p) for p in pixels], [0, 1, 0], file="signs.parquet", **box, **size)
    )
    tight = sign_boxes(table)
    assert tight == [(10, 10, 30, 30), (10, 0, 30, 40), (10, 30, 30, 40)]
    wide = sign_boxes(table, slack=0.5, seed=1)
    for (x1, y1, x2, y2), (left, up, right, down) in zip(tight, wide, strict=True):
        assert 0 <= left <= x1
        assert 0 <= up <= y1
        assert x2 <= right <= 40
        assert y2 <= down <= 40
        assert right - left == pytest.approx(30, abs=1)
    assert wide == sign_boxes(table, slack=0.5, seed=1)
    assert wide != sign_boxes(table, slack=0.5, seed=2)
    with pytest.raises(ConfigError, match=r"slack is 0\.5 and crop is False"):
        Gtsrb(slack=0.5)


@pytest.mark.parametrize("image", ["img", "image"])
@pytest.mark.parametrize("label", ["label", "fine_label"])
def test_parquet_pixels_labels_and_names_travel(
    write_parquet: Writer, image: str, label: str
) -> None:
    pixels = random_pixels(6, 5, 7, 3)
    path = write_parquet(
        [png(p) for p in pixels],
        [0, 1, 1, 0, 1, 0],
        image=image,
        label=label,
        names=["cat", "dog"],
        index=[5, 10, 15, 20, 25, 30],
    )
    split = read_table(path).split("toy/test", Decoding(), prefix="toy/test")
    assert torch.equal(
        (split.images * 255).round().byte().permute(0, 2, 3, 1), torch.tensor(pixels)
    )
    assert split.labels.tolist() == [0, 1, 1, 0, 1, 0]
    assert split.label_names == ("cat", "dog")
    assert split.ids[:2] == ("toy/test/00005", "toy/test/00010")


def test_parquet_files_make_three_parts(write_parquet: Writer) -> None:
    blobs = [png(p) for p in random_pixels(50, 4, 4, 3)]
    train = write_parquet(blobs[:40], [i % 2 for i in range(40)], file="train.parquet")
    test = write_parquet(blobs[40:], [i % 2 for i in range(10)], file="test.parquet")
    parts = ParquetFiles(train, test, size=8, channels=1).load()
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [36, 4, 10]
    assert parts.train.shape == (1, 8, 8)
    assert parts.train.label_names == ("0", "1")
    relative = ParquetFiles(Path("train.parquet"), Path("test.parquet"))
    assert len(relative.load(train.parent).test) == 10


def test_damaged_parquet_names_the_file(write_parquet: Writer, tmp_path: Path) -> None:
    path = write_parquet([png(p) for p in random_pixels(6, 8, 8, 3)], [0] * 6)
    data = path.read_bytes()
    for damage in (data[: len(data) // 2], b"", b"<html>not found</html>" * 9, data[:-4] + b"????"):
        path.write_bytes(damage)
        with pytest.raises(DataError, match=r"images\.parquet is truncated or not") as error:
            read_table(path)
        _one_sentence(error)
    with pytest.raises(DataError, match="does not exist"):
        read_table(tmp_path / "nothing.parquet")


def test_damaged_images_name_file_and_row(write_parquet: Writer) -> None:
    good = [png(p) for p in random_pixels(6, 8, 8, 3)]
    photo = png(random_pixels(1, 32, 32, 3)[0], "JPEG")
    for damage in (good[3][:60], photo[: len(photo) // 2], b"", b"GIF89a", None):
        path = write_parquet([*good[:3], damage, *good[4:]], [0] * 6)
        with pytest.raises(DataError, match=r"images\.parquet, row 3: ") as error:
            read_table(path).split("toy/test", Decoding(), prefix="toy")
        _one_sentence(error)


@pytest.mark.parametrize(("kind", "dtype"), [("PNG", np.uint16), ("TIFF", np.float32)])
def test_more_than_8_bits_are_refused_not_cut_off(
    write_parquet: Writer, kind: str, dtype: type
) -> None:
    file = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=dtype).reshape(8, 8) * 1000).save(file, kind)
    path = write_parquet([file.getvalue()], [0])
    with pytest.raises(DataError, match=r"row 0: .* save it with 8 bits per channel") as error:
        read_table(path).split("toy/test", Decoding(channels=1), prefix="toy")
    _one_sentence(error)


def deep_png(colour_type: int, channels: int) -> bytes:
    """A PNG of 16 bits per channel, written by hand: Pillow reads such files but writes none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(4 * channels * 2)) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bits_are_refused_as_well(
    write_parquet: Writer, colour_type: int, channels: int
) -> None:
    path = write_parquet([deep_png(colour_type, channels)], [0])
    with pytest.raises(DataError, match=r"row 0: .* save it with 8 bits per channel"):
        read_table(path).split("toy/test", Decoding(), prefix="toy")


def test_images_of_two_sizes_ask_for_a_size(write_parquet: Writer) -> None:
    blobs = [png(random_pixels(1, 8, 8, 3)[0]), png(random_pixels(1, 8, 9, 3)[0])]
    table = read_table(write_parquet(blobs, [0, 1]))
    with pytest.raises(DataError, match=r"row 1: the image is 9x8, the first is 8x8; pass a size"):
        table.split("toy/test", Decoding(), prefix="toy")
    assert table.split("toy/test", Decoding(size=6), prefix="toy").shape == (3, 6, 6)


def test_wrong_columns_and_labels_are_named(write_parquet: Writer) -> None:
    blobs = [png(p) for p in random_pixels(2, 4, 4, 3)]
    with pytest.raises(
        DataError, match=r"no image column; expected img or image, found pic, label"
    ):
        read_table(write_parquet(blobs, [0, 1], image="pic"))
    with pytest.raises(DataError, match="no label column"):
        read_table(write_parquet(blobs, [0, 1], label="target"))
    with pytest.raises(DataError, match="neither integers nor names"):
        read_table(write_parquet(blobs, [0.5, 1.5]))
    table = read_table(write_parquet(blobs, [0, 2], names=["cat", "dog"]))
    with pytest.raises(DataError, match=r"images\.parquet: .*label 2 of row 1 is outside 0..1"):
        table.split("toy/test", Decoding(), prefix="toy")
    with pytest.raises(DataError, match="row 1: the label is missing"):
        read_table(write_parquet(blobs, [0, None]))
    for label in (-1, 10**9, 2**40):
        with pytest.raises(DataError, match=rf"row 1: the label is {label}; labels count the"):
            read_table(write_parquet(blobs, [0, label]))
    with pytest.raises(DataError, match="no row"):
        read_table(write_parquet([], []))


def test_an_image_column_without_bytes_is_refused(tmp_path: Path) -> None:
    import polars as pl

    pl.DataFrame({"img": ["a.png"], "label": [0]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"column 'img' is String, not struct"):
        read_table(tmp_path / "x.parquet")


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def official(tmp_path: Path) -> tuple[Archive, np.ndarray]:
    """Files in the official format (pickle protocol 2 of plain dicts), with random images."""
    folder = tmp_path / CIFAR10_ARCHIVE.folder
    folder.mkdir()
    pixels = random_pixels(60, 3, 32, 32)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for i, name in enumerate(names):
        rows = pixels[i * 10 : (i + 1) * 10].reshape(10, -1)
        batch = {"data": rows, "labels": [(i + k) % 10 for k in range(10)], "filenames": ["x"] * 10}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {"label_names": [f"class{k}" for k in range(10)], "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    archive = replace(
        CIFAR10_ARCHIVE,
        train=tuple((name, _md5(folder / name)) for name in names[:5]),
        test=("test_batch", _md5(folder / "test_batch")),
        meta=("batches.meta", _md5(folder / "batches.meta")),
    )
    return archive, pixels


@pytest.mark.parametrize("packed", [False, True])
def test_the_official_archive_packed_or_not(
    official: tuple[Archive, np.ndarray], tmp_path: Path, packed: bool
) -> None:
    archive, pixels = official
    folder = tmp_path / archive.folder
    if packed:
        with tarfile.open(tmp_path / archive.tar, "w:gz") as tar:
            tar.add(folder, archive.folder)
        for file in folder.iterdir():
            file.unlink()
    train = read_archive(tmp_path, archive, train=True, name="cifar10/train")
    test = read_archive(tmp_path, archive, train=False, name="cifar10/test")
    assert torch.equal((train.images * 255).round().byte(), torch.tensor(pixels[:50]))
    assert torch.equal((test.images * 255).round().byte(), torch.tensor(pixels[50:]))
    assert train.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2]
    assert test.label_names[3] == "class3"
    assert train.ids[11] == "cifar10/train/00011"


def test_a_wrong_checksum_is_refused(official: tuple[Archive, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data_batch_1 has MD5 .*published is c99cafc1") as error:
        Cifar10(train="official").load(tmp_path)
    _one_sentence(error)


def test_a_damaged_archive_names_itself(tmp_path: Path) -> None:
    tar = tmp_path / CIFAR10_ARCHIVE.tar
    tar.write_bytes(b"\x1f\x8b\x08\x00 not an archive")
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz is truncated or not a tar"):
        Cifar10(train="official").load(tmp_path)
    with tarfile.open(tar, "w:gz"):
        pass
    with pytest.raises(DataError, match="holds no cifar-10-batches-py/data_batch_1"):
        Cifar10(train="official").load(tmp_path)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


def test_a_pickle_cannot_run_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"batch is not a CIFAR pickle: it asks for .*print"):
        unpickle(pickle.dumps({"data": _Evil()}), "batch")
    assert capsys.readouterr().out == ""
    with pytest.raises(DataError, match="not a CIFAR pickle"):
        unpickle(b"\x80\x02}garbage", "batch")
    with pytest.raises(DataError, match="holds list"):
        unpickle(pickle.dumps([1]), "batch")


def test_image_folder_with_and_without_parts(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label, name in enumerate(("ant", "bee")):
            folder = tmp_path / "set" / part / name
            folder.mkdir(parents=True)
            for i, pixels in enumerate(random_pixels(10, 6, 6, 3, seed=label)):
                (folder / f"{i}.png").write_bytes(png(pixels))
            (folder / "notes.txt").write_text("not an image")
    parts = ImageFolder(tmp_path / "set").load()
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [18, 2, 20]
    assert parts.test.label_names == ("ant", "bee")
    assert parts.test.ids[10] == "set/test/bee/0.png"
    whole = ImageFolder(tmp_path / "set" / "train", size=4).load()
    sizes = [len(whole.train), len(whole.validation), len(whole.test)]
    assert sum(sizes) == 20
    assert min(sizes) >= 2
    assert whole.train.shape == (3, 4, 4)
    below = ImageFolder(Path("set"))
    assert below.load_test(tmp_path).ids == parts.test.ids


def test_image_folder_problems_name_the_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        ImageFolder(tmp_path / "no").load()
    with pytest.raises(DataError, match="no class folder"):
        ImageFolder(tmp_path).load()
    (tmp_path / "ant").mkdir()
    with pytest.raises(DataError, match="holds a single class folder, ant; a classifier tells"):
        ImageFolder(tmp_path).load()
    for name in ("bee", ".cache", "__MACOSX"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="ant holds no image"):
        ImageFolder(tmp_path).load()
    for name, end in (("ant", 50), ("bee", None)):
        (tmp_path / name / "one.png").write_bytes(png(random_pixels(1, 8, 8, 3)[0])[:end])
    with pytest.raises(DataError, match=r"ant/one\.png: the image is truncated"):
        ImageFolder(tmp_path).load()


def test_tracks_stay_on_one_side() -> None:
    labels = [k for k in range(3) for _ in range(40)] + [3] * 5
    tracks = [i // 4 for _ in range(3) for i in range(40)] + [0] * 5
    kept, held = hold_out_tracks(labels, tracks, seed=0)
    groups = [{(labels[i], tracks[i]) for i in rows} for rows in (kept, held)]
    assert not groups[0] & groups[1]
    assert sorted(kept + held) == list(range(len(labels)))
    assert [sum(labels[i] == k for i in held) for k in range(4)] == [4, 4, 4, 0]
    assert hold_out_tracks(labels, tracks, seed=1) != (kept, held)


def test_real_cifar10_agrees_with_the_official_labels(shared_data: Path) -> None:
    official = np.load(shared_data / "cifar10_labels.npz")
    test = Cifar10().load_test(shared_data)
    index = [int(i.rpartition("/")[2]) for i in test.ids]
    assert test.labels.tolist() == official["test"][index].tolist()
    assert test.label_names[0] == "airplane"
    lossless = read_table(shared_data / "cifar10_lossless_train.parquet")
    assert lossless.frame["label"].to_list() == official["train"][lossless.frame["index"]].tolist()
    # The same official index is the same picture, JPEG noise apart.
    jpeg = Cifar10(test="jpeg").load_test(shared_data).take(index)
    assert float((jpeg.images - test.images).abs().mean()) < 0.03
    assert jpeg.ids == test.ids


@pytest.mark.slow
def test_real_sets_load_with_the_published_counts(shared_data: Path) -> None:
    cifar = Cifar10().load(shared_data)
    assert [len(cifar.train), len(cifar.validation), len(cifar.test)] == [45_000, 5_000, 1_017]
    assert cifar.validation.labels.bincount().tolist() == [500] * 10
    signs = Gtsrb().load(shared_data)
    assert len(signs.train) + len(signs.validation) == 11_310
    assert signs.test.label_names[14] == "Stop"
    assert len(Mnist("test_only").load_test(shared_data)) == 2000
    assert Cifar100("subset").load(shared_data).test.classes == 100
