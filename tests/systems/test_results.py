"""What was measured, in the forms of others, read back as they read it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from recuse.analysis.published.robustbench import ENTRIES, entries
from recuse.attacks import Apgd
from recuse.cli.main import main
from recuse.composition import Cascade, Stage
from recuse.data import Splits
from recuse.errors import ConfigError
from recuse.evaluation import Evaluation, evaluate
from recuse.models import WideResNet, card_for
from recuse.models.mixture import mix
from recuse.selectors import Always
from recuse.systems import System
from recuse.systems.results import Publication, measured_of, model_info

from .conftest import BUDGET, FORM, LABELS, card

# The keys of a published entry and the types of their values.
KEYS = {
    "link": str,
    "name": str,
    "authors": str,
    "additional_data": bool,
    "number_forward_passes": int,
    "dataset": str,
    "venue": str,
    "architecture": str,
    "eps": str,
    "clean_acc": str,
    "reported": str,
    "autoattack_acc": str,
    "footnote": str,
    "unreliable": bool,
}


def test_an_entry_has_the_published_keys_and_our_bounds_beside(
    saved: Path, built: System, tmp_path: Path
) -> None:
    words = ["--results", "robustbench", "--title", "Ours", "--venue", "nowhere"]
    main(["export", str(saved), *words, "--out", str(tmp_path / "info.json")])
    info = json.loads((tmp_path / "info.json").read_text())
    assert {key: type(info[key]) for key in KEYS} == KEYS
    assert set(info) == {*KEYS, "recuse"}
    found = built.measured
    assert (info["name"], info["venue"], info["dataset"]) == ("Ours", "nowhere", "digits")
    assert float(info["clean_acc"]) == pytest.approx(100 * found["natural"][0], abs=0.005)
    assert float(info["reported"]) == pytest.approx(100 * found["attacked"][0], abs=0.005)
    for kind in ("natural", "sound", "attacked"):
        assert info["recuse"][kind] == list(found[kind])
    assert info["eps"] == "0.05"
    assert info["architecture"] == "Mlp-32 + Mlp-32"
    assert info["number_forward_passes"] == 2
    assert info["unreliable"]  # an indicator searches at inference
    assert info["autoattack_acc"] == ""  # nobody ran it
    assert "AutoAttack was not run" in info["footnote"]


def test_a_mixture_names_both_networks_and_breaks_no_rule(
    robust: nn.Module, accurate: nn.Module, built: System
) -> None:
    wide = card_for("wide", WideResNet(28, 10))
    network, about = mix("m", (robust, card("a")), (accurate, card("b")), alpha=0.6)
    stage = Stage(network, Always(), "m", about)
    system = System("m", Cascade((stage,), None, BUDGET), LABELS, FORM, measured=built.measured)
    info = model_info(measured_of(system), Publication())
    assert not info["unreliable"]
    assert info["number_forward_passes"] == 2
    assert "rules exclude" not in info["footnote"]
    renamed = replace(
        about.architecture, robust=replace(wide, preprocessing=card("a").preprocessing)
    )
    stage = replace(stage, card=replace(about, architecture=renamed))
    system = System("m", Cascade((stage,), None, BUDGET), LABELS, FORM, measured=built.measured)
    assert measured_of(system).architecture == "WideResNet-28-10 + Mlp-32"
    with pytest.raises(ConfigError, match="nothing was measured"):
        measured_of(replace(system, measured={}))


def test_a_model_card_is_read_back_by_the_hub(saved: Path, built: System, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    main(["export", str(saved), "--results", "hf", "--out", str(tmp_path / "README.md")])
    read = hub.ModelCard((tmp_path / "README.md").read_text())
    assert read.data.library_name == "recuse"
    rates = {result.metric_type: result for result in read.data.eval_results}
    for kind, name in (
        ("accuracy", "natural"),
        ("robust_accuracy_sound", "sound"),
        ("robust_accuracy_attacked", "attacked"),
    ):
        mean, *ends = built.measured[name]
        assert rates[kind].metric_value == mean
        assert rates[kind].metric_args == {"interval": ends}
        assert rates[kind].dataset_args == {"rows": built.measured["rows"]}
    assert "linf:0.05" in rates["robust_accuracy_sound"].metric_name
    assert read.text.strip() == (saved / "README.md").read_text().strip()


def test_a_run_has_results_too(
    robust: nn.Module, digits: Splits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = Evaluation("linf", (0.05, 0.1), Apgd(steps=3))
    record = evaluate(
        robust, digits.test.head(30), how, name="era", records=tmp_path / "run" / "records"
    )
    words = ["export", str(tmp_path / "run"), "--results", "robustbench"]
    main([*words, "--member", "era", "--threat", "linf:0.05", "--out", str(tmp_path / "i.json")])
    info = json.loads((tmp_path / "i.json").read_text())
    accurate = record.frame["accurate"].mean()
    assert info["recuse"]["natural"][0] == pytest.approx(accurate, abs=1e-6)
    assert info["recuse"]["sound"] is None
    capsys.readouterr()
    for more, says in (
        (["--member", "x", "--threat", "linf:0.05"], "judged era"),
        (["--member", "era"], "norm:eps"),
        (["--member", "era", "--threat", "linf:0.07"], "was not judged within linf:0.07"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*words, *more, "--out", str(tmp_path / "no.json")])
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1
    assert not (tmp_path / "no.json").exists()


def test_published_rows_are_those_of_the_data_and_norm() -> None:
    found = entries("cifar10-lossless/test", "linf")
    assert [entry.robust for entry in found] == [73.71, 69.71, 68.06]
    assert entries("digits/test", "linf") == ()
    assert all(0 < entry.robust < entry.clean < 100 for entry in ENTRIES)
