"""What older versions left: converted without a changed number, and gone on with."""

import json
import shutil
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from recuse.cli.main import main
from recuse.errors import ConfigError, RecordError
from recuse.records.configs import config_text, is_older, read_config
from recuse.records.hashes import records_hash
from recuse.records.layout import CONFIG, LOCK, META, SHARD
from recuse.records.packing import pack
from recuse.records.store import read_record, read_records
from recuse.records.upgrade import upgrade

from .conftest import opened, rows
from .test_store import as_before_checksums

PGD = {"kind": "Pgd", "steps": 10}


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Path:
    """A run folder with one record, as a version without checksums and numbers left it."""
    as_before_checksums(folder)
    (tmp_path / "run" / "records").mkdir(parents=True)
    shutil.move(folder, tmp_path / "run" / "records" / folder.name)
    old = {"kind": "RunConfig", "eps": [0.1], "evaluation": {"kind": "Evaluation"}, "models": []}
    (tmp_path / "run" / CONFIG).write_text(json.dumps(old))
    return tmp_path / "run"


def test_records_get_checksums_and_one_shard_and_keep_every_number(run: Path) -> None:
    (folder,) = (run / "records").iterdir()
    before = records_hash(read_records(run))
    assert upgrade(run, print) == [folder, run / CONFIG]
    assert upgrade(run, print) == []
    (shard,) = folder.glob("shard-*")
    name = SHARD.fullmatch(shard.name)
    assert name
    assert name[1]
    assert json.loads((folder / META).read_text())["format"] == 2
    assert not (folder / LOCK).exists()
    assert_frame_equal(read_record(folder).frame, rows(0, 24))
    assert records_hash(read_records(run)) == before
    with opened(folder.parent) as record:
        assert not record.known
    pack(run / "records", print)
    assert upgrade(run, print) == []


def test_damage_and_newer_versions_are_not_converted(run: Path) -> None:
    (folder,) = (run / "records").iterdir()
    whole = (folder / META).read_text()
    (folder / META).write_text(whole.replace('"linf"', '"l7"'))
    with pytest.raises(RecordError, match=f"{META} is damaged"):
        upgrade(run, print)
    (folder / META).write_text(json.dumps(json.loads(whole) | {"format": 3}))
    with pytest.raises(RecordError, match="written by a newer version"):
        upgrade(run, print)
    (folder / META).write_text(whole)
    (run / CONFIG).write_text('{"format": 3}')
    with pytest.raises(ConfigError, match=r"newer version of recuse \(format 3, .*; update"):
        upgrade(run, print)
    with pytest.raises(RecordError, match=r"no records below .*; give a run folder"):
        upgrade(run / "nothing", print)


def test_objectives_of_old_configs_get_the_settings_that_their_losses_held(tmp_path: Path) -> None:
    trades = {"kind": "Trades", "gamma": 3.0, "attack": PGD, "batch_norm": "eval"}
    bare = {"kind": "Trades", "gamma": 3.0}
    era = {"kind": "Era", "robust": trades, "attack": PGD, "blend": 1.0}
    literal = {"kind": "LiteralEra", "robust": trades, "attack": {"kind": "Pgd", "steps": 7}}
    models = [{"train": {"objective": objective}} for objective in (trades, era, literal)]
    path = tmp_path / CONFIG
    old = {"kind": "RunConfig", "evaluation": {"kind": "Evaluation"}, "models": models}
    path.write_text(json.dumps(old))
    assert is_older(path)
    found = read_config(path)
    assert [model["train"]["objective"] for model in found["models"]] == [
        {"kind": "Robust", "loss": bare, "attack": PGD, "batch_norm": "eval"},
        {"kind": "Era", "robust": bare, "attack": PGD},
        literal | {"robust": bare, "robust_attack": PGD},
    ]
    assert found["judgements"] == [{"kind": "Evaluation"}]
    path.write_text(config_text(found))
    assert not is_older(path)
    assert read_config(path) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as the config of a run"),
        ("[1]", "is not the config of a run"),
        ("[" * 100_000, "nested deeper"),
        ("\ud800", "cannot be read as the config of a run"),
        ('{"format": "two"}', "format 'two' is not a number"),
        ('{"format": 9}', "written by a newer version of recuse .format 9"),
        ('{"format": 2, "kind": "Pgd"}', "is not the config of a run"),
        ('{"format": 2, "kind": "Telepathy"}', "cannot be run by this version: .*'Telepathy'"),
        ('{"kind": "RunConfig", "speed": 1}', "cannot be run by this version: .*'recipe'"),
    ],
)
def test_a_config_that_cannot_be_run_is_one_sentence(tmp_path, text, message, capsys) -> None:
    path = tmp_path / CONFIG
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(SystemExit) as stop:
        main(["run", str(path), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(complaint)
    assert not (tmp_path / "out").exists()


def test_an_older_run_folder_is_not_gone_on_with_until_it_is_converted(
    tmp_path: Path, capsys
) -> None:
    out = tmp_path / "digits"
    words = ["run", "digits", "--quick", "--out", str(out)]
    out.mkdir()
    (out / CONFIG).write_text(json.dumps({"kind": "RunConfig", "recipe": "digits"}))
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "written by an older version of recuse; choose another --out, or convert it by" in said
    assert [path.name for path in out.iterdir()] == [CONFIG]


@pytest.mark.parametrize("name", ["digits", "gaussians", "cifar10_small"])
def test_the_committed_configs_can_be_run_again(name: str) -> None:
    from recuse.recipes import read_run_config

    path = Path(__file__).parents[2] / "results" / "runs" / name / CONFIG
    assert read_run_config(path).recipe == name


def test_the_commands_say_what_they_did(run: Path, capsys) -> None:
    def said(*words: str) -> str:
        main(["records", *words, str(run)])
        return capsys.readouterr().out

    before, each = said("hash"), said("hash", "--each")
    assert len(before.strip()) == 64
    assert each.endswith("  m\n")
    assert said("upgrade").count("converted ") == 2
    assert "nothing to convert" in said("upgrade")
    assert "1 record, 2 files of " in said("pack").replace("\n", "")
    assert (said("hash"), said("hash", "--each")) == (before, each)
    for words in (["pack"], ["hash"], ["upgrade"]):
        with pytest.raises(SystemExit) as stop:
            main(["records", *words])
        assert stop.value.code == 2
        assert "no run named; give at least one run folder" in capsys.readouterr().err
