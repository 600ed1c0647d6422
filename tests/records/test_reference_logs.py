"""Published logs become records, whatever the data set, and bad ones are refused by name."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recuse.errors import RecordError
from recuse.records.reference_columns import carry_outward
from recuse.records.reference_logs import read_logs
from recuse.records.reference_names import read_name
from recuse.records.schema import non_monotone, robust_columns
from recuse.records.sources import load_records
from recuse.records.store import write_record

RAIL = "adv/sbb/Linf/resnet50_sbb_trades2_255ft__20210601_1200"


def rail(samples: int = 12, *, shift: int = 0) -> pl.DataFrame:
    """An attack log of a five-class rail set, in the published layout."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 2, samples)
    return pl.DataFrame(
        {
            "": np.arange(samples),
            "sample_idx": np.arange(samples) + shift,
            "resnet50_sbb_trades2_255_is_acc": rng.integers(0, 2, samples),
            "resnet50_sbb_trades2_255_is_rob1_255": small,
            "resnet50_sbb_trades2_255_is_rob2_255": small * rng.integers(0, 2, samples),
            "resnet50_sbb_trades2_255_pred": rng.integers(0, 5, samples),
        }
    )


def write(root: Path, folder: str, name: str, frame: pl.DataFrame) -> Path:
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_csv(path)
    return path


def write_rail(root: Path, frame: pl.DataFrame, folder: str = RAIL) -> Path:
    return write(root, folder, "testset_sbb_Linf_apgd.csv", frame)


@pytest.mark.parametrize("below", ["", "raw"])
def test_a_csv_tree_of_any_data_set_becomes_records(tmp_path: Path, below: str) -> None:
    frame = rail()
    write_rail(tmp_path / below, frame)
    (item,) = read_logs(tmp_path).imports
    meta = item.record.meta
    assert (meta.dataset, meta.norm, meta.method) == ("sbb/test", "linf", "apgd")
    assert meta.radii == ("1/255", "2/255")
    assert meta.tags["loss"] == "trades"
    assert meta.tags["train_eps"] == "2/255"
    assert meta.tags["base"] == "resnet50"
    assert meta.tags["log_dir"] == RAIL
    right = frame["resnet50_sbb_trades2_255_is_acc"].cast(pl.Boolean)
    assert item.record.frame["accurate"].to_list() == right.to_list()
    assert item.record.frame["prediction"].max() <= 4


@pytest.mark.parametrize(
    ("folder", "file", "tags"),
    [
        (
            "mrevadv/cifar100/Linf/4_255/x/mra4_255_autoaugment__Rebuffi__20210821_1509",
            "testset_cifar100_Linf_apgd.csv",
            {"loss": "era", "base": "Rebuffi", "train_eps": "4/255", "augmentation": "autoaugment"},
        ),
        (
            "grevadv/sbb/Linf/gra1_255__resnet50_sbb_trades8_255__20210909_2125",
            "testset_sbb_Linf_apgdconf.csv",
            {"loss": "dga", "base": "resnet50", "init": "resnet50_sbb_trades8_255"},
        ),
        (
            "revcertrad/cifar10/0.12/y/rcr0.12__Sehwag__20210809_1113",
            "smoothing/testset_smooth0.12_N0100_N100000.csv",
            {"loss": "cra", "train_sigma": "0.12", "sigma": 0.12, "base": "Sehwag"},
        ),
        (
            "augm/cifar10/resnet110_cifar10_gaussaugm0.06ft__20210808_0158",
            "smoothing/testset_smooth0.06_N0100_N100000.csv",
            {"loss": "gaussian", "train_sigma": "0.06", "base": "resnet110", "finetuned": True},
        ),
        (
            "std/cifar100/wrn2810_cifar100_std__20210919_2248",
            "testset_cifar100_Linf_apgd.csv",
            {"loss": "std", "base": "wrn2810"},
        ),
        (
            "ace/cifar10/Linf/ACE_Net_COLT_cert_2_255",
            "testset_cifar10_Linf_pgd.csv",
            {"loss": "ace_colt", "train_eps": "2/255"},
        ),
        (
            "adv/cifar10/L2/Augustin2020",
            "testset_cifar10_L2_apgd.csv",
            {"loss": "robustbench", "base": "Augustin2020"},
        ),
    ],
)
def test_names_say_what_was_trained(folder: str, file: str, tags: dict[str, object]) -> None:
    name = read_name(f"{folder}/{file}")
    assert {key: name.tags.get(key) for key in tags} == tags
    assert name.folder == folder


@given(st.lists(st.tuples(*[st.booleans()] * 4), min_size=1, max_size=30))
def test_carrying_a_break_outward_is_monotone_idempotent_and_changes_nothing_else(
    rows: list[tuple[bool, ...]],
) -> None:
    names = [f"robust@{r}" for r in ("1/255", "2/255", "4/255", "8/255")]
    raw = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.Boolean), orient="row")
    repaired = carry_outward(raw)
    assert non_monotone(repaired) == 0
    assert carry_outward(repaired).equals(repaired)
    for name in robust_columns(raw):
        assert not (repaired[name] & ~raw[name]).any()  # a verdict is only ever withdrawn
    assert repaired[names[0]].equals(raw[names[0]])
    if non_monotone(raw) == 0:
        assert repaired.equals(raw)


def test_contradictions_are_counted_and_both_views_kept(tmp_path: Path) -> None:
    frame = rail().with_columns(
        pl.Series("resnet50_sbb_trades2_255_is_rob1_255", [0, 0] + [1] * 10),
        pl.Series("resnet50_sbb_trades2_255_is_rob2_255", [1, 0] + [1] * 10),
    )
    write_rail(tmp_path, frame)
    (item,) = read_logs(tmp_path).imports
    assert item.non_monotone == 1
    assert item.raw["robust@2/255"].sum() == 11
    assert item.record.frame["robust@2/255"].sum() == 10


def test_a_smoothed_abstention_is_wrong_and_no_class(tmp_path: Path) -> None:
    folder = "augm/cifar10/resnet110_cifar10_gaussaugm0.12__20210426_1811/smoothing"
    frame = pl.DataFrame(
        {
            "": [0, 1, 2],
            "sample_idx": [5, 9, 3],
            "label": [1, 2, 3],
            "base_prediction": [1, 2, 3],
            "prediction": [1, -1, 0],
            "linf_radius": [0.001, 0.0, 0.002],
            "l2_radius": [0.3, 0.0, 0.2],
        }
    )
    write(tmp_path, folder, "testset_smooth0.12_N0100_N100000.csv", frame)
    (item,) = read_logs(tmp_path).imports
    got = item.record.frame
    assert got["sample_id"].to_list() == ["000003", "000005", "000009"]
    assert got["prediction"].to_list() == [0, 1, None]
    assert got["accurate"].to_list() == [False, True, False]
    assert item.record.meta.settings == {"sigma": 0.12, "n0": 100, "n": 100000}


def test_logs_without_labels_keep_what_needs_none(tmp_path: Path) -> None:
    write_rail(tmp_path, rail().drop("resnet50_sbb_trades2_255_is_acc"))
    (item,) = read_logs(tmp_path).imports
    assert "accurate" not in item.record.frame.columns
    assert "robust@1/255" in item.record.frame.columns


P = "resnet50_sbb_trades2_255_"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: f.drop("sample_idx"), "'sample_idx' is missing"),
        (lambda f: f.drop(f"{P}pred"), "_pred' is missing"),
        (lambda f: f.drop(f"{P}is_rob1_255", f"{P}is_rob2_255"), "is_rob<radius>' is missing"),
        (lambda f: f.rename({f"{P}is_acc": f"{P}accurate"}), f"'{P}accurate' is unknown"),
        (lambda f: f.rename({f"{P}is_rob1_255": "other_is_rob1_255"}), "'other_is_rob1_255'"),
        (lambda f: f.with_columns(other_pred=pl.lit(1)), "belong to two models"),
        (
            lambda f: f.with_columns(sample_idx=pl.lit(3)),
            "'sample_idx' holds 3 more than once",
        ),
        (
            lambda f: f.with_columns(
                sample_idx=pl.when(pl.col("sample_idx") > 2).then("sample_idx")
            ),
            "'sample_idx' is empty in 3 rows",
        ),
        (
            lambda f: f.with_columns(pl.col(f"{P}is_acc") * 2),
            f"'{P}is_acc' holds 2 where only 0 and 1",
        ),
        (
            lambda f: f.with_columns(pl.lit("yes").alias(f"{P}pred")),
            f"'{P}pred' holds values that are not numbers",
        ),
    ],
)
def test_a_bad_csv_is_refused_by_file_and_column(tmp_path: Path, spoil, words: str) -> None:
    path = write_rail(tmp_path, spoil(rail()))
    with pytest.raises(RecordError) as caught:
        read_logs(tmp_path)
    assert words in str(caught.value)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_models_on_different_samples_are_refused(tmp_path: Path) -> None:
    write_rail(tmp_path, rail())
    other = RAIL.replace("1200", "1300")
    write_rail(tmp_path, rail(shift=1), other)
    with pytest.raises(RecordError, match=r"1300.*'sample_idx' differs from .*1200.*sample 0000"):
        read_logs(tmp_path)


def test_a_missing_row_is_refused(tmp_path: Path) -> None:
    write_rail(tmp_path, rail())
    write_rail(tmp_path, rail().head(11), RAIL.replace("1200", "1300"))
    with pytest.raises(RecordError, match="sample 000011 is in one of them only"):
        read_logs(tmp_path)


def test_a_torn_csv_and_an_odd_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / RAIL / "testset_sbb_Linf_apgd.csv"
    path.parent.mkdir(parents=True)
    path.write_text("sample_idx,a_pred\n0,1,2,3\n")
    with pytest.raises(RecordError, match=r"apgd\.csv cannot be read as CSV"):
        read_logs(tmp_path)
    path.rename(path.with_name("testset_sbb.csv"))
    with pytest.raises(RecordError, match="the file name is neither"):
        read_logs(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="holds no logs"):
        read_logs(tmp_path)
    with pytest.raises(RecordError, match="is not a folder"):
        read_logs(tmp_path / "nowhere")


def tidy(**changes: object) -> pl.DataFrame:
    log = f"{RAIL}/testset_sbb_Linf_apgd.csv"
    columns: dict[str, object] = {
        "log": [log] * 4,
        "dataset": ["sbb"] * 4,
        "attack": ["apgd"] * 4,
        "norm": ["Linf"] * 4,
        "loss": ["trades"] * 4,
        "sample_idx": [3, 1, 2, 0],
        "label": [4, None, 0, 1],
        "pred": [4, 2, 0, 2],
        "is_acc": [True, False, True, False],
        "is_rob_1_255": [True, False, True, True],
        "is_rob_2_255": [None] * 4,
    }
    return pl.DataFrame(columns | changes)


def test_a_tidy_parquet_becomes_records_sorted_by_sample(tmp_path: Path) -> None:
    tidy().write_parquet(tmp_path / "logs.parquet")
    (item,) = read_logs(tmp_path).imports
    assert item.record.frame["prediction"].to_list() == [2, 2, 0, 4]
    assert item.record.meta.radii == ("1/255",)  # a column without a value was not judged
    assert item.record.meta.tags["train_eps"] == "2/255"  # from the path


def test_csv_and_parquet_of_one_log_are_compared(tmp_path: Path) -> None:
    tidy().write_parquet(tmp_path / "logs.parquet")
    frame = tidy().sort("sample_idx")
    published = pl.DataFrame(
        {
            "sample_idx": frame["sample_idx"],
            "m_is_acc": frame["is_acc"].cast(pl.Int8),
            "m_is_rob1_255": frame["is_rob_1_255"].cast(pl.Int8),
            "m_pred": frame["pred"],
        }
    )
    write_rail(tmp_path / "raw", published)
    logs = read_logs(tmp_path)
    assert len(logs.imports) == 1
    assert len(logs.compared) == 1
    assert not logs.differing
    write_rail(tmp_path / "raw", published.with_columns(m_pred=pl.lit(0)))
    assert read_logs(tmp_path).differing == logs.compared


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm": ["Linf", "Linf", "L2", "L2"]}, "several values in column 'norm'"),
        ({"sample_idx": [0, 0, 1, 2]}, "'sample_idx' holds 0 more than once"),
        ({"is_rob_1_255": [True, None, True, True]}, "'is_rob_1_255' is empty in 1 rows"),
        ({"is_rob_1_255": [None] * 4}, "'is_rob_<radius>' is missing or empty"),
    ],
)
def test_a_bad_parquet_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    path = tmp_path / "logs.parquet"
    tidy(**changes).write_parquet(path)
    with pytest.raises(RecordError) as caught:
        read_logs(tmp_path)
    assert words in str(caught.value)
    assert "logs.parquet" in str(caught.value)


@pytest.mark.parametrize("column", ["log", "sample_idx", "pred"])
def test_a_parquet_without_a_column_is_refused(tmp_path: Path, column: str) -> None:
    tidy().drop(column).write_parquet(tmp_path / "logs.parquet")
    with pytest.raises(RecordError, match=f"logs.parquet: column '{column}' is missing"):
        read_logs(tmp_path)


def test_records_load_from_runs_and_from_logs_alike(tmp_path: Path) -> None:
    write_rail(tmp_path / "logs", rail())
    (record,) = load_records(tmp_path / "logs")
    write_record(tmp_path / "run" / "records", record)
    (again,) = load_records(tmp_path / "run")
    assert again.meta == record.meta
    assert again.frame.equals(record.frame)


def test_the_published_logs_import_whole(shared_reference: Path) -> None:
    logs = read_logs(shared_reference)
    table = pl.read_parquet(shared_reference / "reference_logs.parquet", columns=["log"])
    assert len(logs.imports) == table["log"].n_unique()
    assert sum(item.raw.height for item in logs.imports) == table.height
    assert logs.compared
    assert not logs.differing
    assert all(non_monotone(item.record.frame) == 0 for item in logs.imports)
    assert sum(item.non_monotone for item in logs.imports) == 285
