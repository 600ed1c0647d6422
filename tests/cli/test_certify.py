"""The certify verb: a record that a rerun leaves alone, and one sentence for what cannot be."""

import pytest

from recuse.cli.main import main
from recuse.records.store import read_records

NETS = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def broken():
    model = build()
    nn.init.constant_(model[1].bias, float("nan"))
    return model
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "certify_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def certify(*words):
    main(["certify", words[0], "--data", "digits", "--limit", "6", "--device", "cpu", *words[1:]])


L2 = ("--eps", "l2:0.1", "--out", "run", "--certifier")
LINF = ("--eps", "linf:0.1", "--certifier")
SMALL = (*L2, "sequential(sigma=0.12, n_max=500)")


def test_both_radii_are_certified_and_a_rerun_changes_nothing(folder, capsys):
    certify("certify_nets:build", *SMALL)
    (record,) = read_records(folder / "run")
    assert {"certified@0.1", "certified@0.2"} <= set(record.frame.columns)
    assert record.frame.height == 6
    assert record.meta.settings["sigma"] == 0.12
    # What a stage that draws so few votes needs to be certified at, besides.
    needed = record.meta.settings["deployed"]["needs"]["0.1"]
    assert float(needed) > 0.2
    assert needed in record.meta.radii
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"A deployed stage of radius 0.1 surely answers in its whole 0.1-ball where {needed}"
        in said
    )
    before = sorted((folder / "run").rglob("*.parquet"))
    certify("certify_nets:build", *L2, "sequential(sigma=0.12, n_max=500, batch_size=64)")
    assert sorted((folder / "run").rglob("*.parquet")) == before


def test_a_radius_step_brackets_the_radius(folder):
    certify("certify_nets:build", *SMALL, "--radius-step", "0.08", "--no-doubled")
    (record,) = read_records(folder / "run")
    assert record.meta.radii[:3] == ("0.08", "0.1", "0.16")
    steps = [0.0, *map(float, record.meta.radii)]
    assert all(min(abs(r - s) for s in steps) < 1e-6 for r in record.frame["radius"])


def test_linf_is_certified_by_intervals(folder):
    certify("certify_nets:build", "--eps", "linf:1/255", "--out", "run")
    (record,) = read_records(folder / "run")
    assert record.meta.method == "ibp"
    assert record.frame["certified@1/255"].all()
    assert record.frame["samples"].sum() == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("certify_nets:build", *L2, "sequential(sigma=0)"), "sigma is 0"),
        (("certify_nets:build", *L2, "sequential(sigma=0.12, alpha=1)"), "alpha is 1"),
        (("certify_nets:build", *L2, "sequential"), "needs sigma"),
        (("certify_nets:build", *L2, "ibp(sigma=7)"), "no field 'sigma'"),
        (("certify_nets:build", "--eps", "l2:0.5"), "453,794 draws"),
        (("certify_nets:build", "--eps", "0.5"), "no norm"),
        (("certify_nets:build", *L2, "ibp"), "linf balls"),
        (
            ("certify_nets:build", "--eps", "linf:1/255", "--radius-step", "0.1"),
            "the certifier sequential",
        ),
        (("certify_nets:broken", *SMALL), "NaN"),
        (("certify_nets:build", *LINF, "ibp(batch_size=0)"), "batch size is 0"),
        (("certify_nets:build", *LINF, "crown(batch_size=-4)"), "batch size is -4"),
        (
            ("certify_nets:build", *L2, "sequential(sigma=0.12, n_max=50, batch_size=0)"),
            "batch size 0",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(words, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        certify(*words)
    assert stop.value.code == 2
    complaint = capsys.readouterr().err.strip()
    assert sentence in complaint
    assert "\n" not in complaint


def test_a_radius_that_no_vote_count_proves_is_named(folder, capsys):
    certify("certify_nets:build", *SMALL[:1], "l2:0.2", *SMALL[2:])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "l2:0.4" in line and "unattainable" in line]
    assert not [line for line in lines if "l2:0.2" in line and "unattainable" in line]
    (record,) = read_records(folder / "run")
    assert not record.frame["certified@0.4"].any()
    main(["report", "run"])
    assert "unattainable" in (folder / "run" / "report.html").read_text()
