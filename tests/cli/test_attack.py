"""``recuse attack`` as a user types it: the number, where it is kept, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recuse import selectors
from recuse.analysis.attacked_pool import SELECTORS, USUAL_SEARCH, system_name
from recuse.analysis.verdicts import verdicts
from recuse.cli.main import main
from recuse.cli.searched import searched
from recuse.models import Mlp
from recuse.models.cards import card_for
from recuse.models.checkpoint import save_checkpoint
from recuse.records.schema import make_record
from recuse.records.store import read_records
from recuse.serialize import to_plain
from recuse.systems.typed import DEFAULT_ATTACK, read_selector
from recuse.threat import Threat

SELECTOR = "indicator(attack=apgd(steps=3))"


def saved(path: Path, name: str, *, classes: int = 10, seed: int = 0) -> str:
    torch.manual_seed(seed)
    card = card_for(name, Mlp(shape=(1, 8, 8), classes=classes, width=8, hidden=1))
    save_checkpoint(path / f"{name}.safetensors", card.build(), card)
    return str(path / f"{name}.safetensors")


def attack(stage: str, core: str, out: Path, *words: str) -> None:
    fixed = ["--data", "digits", "--limit", "8", "--selector", SELECTOR, "--search", "2"]
    main(["attack", stage, "--core", core, *fixed, "--out", str(out), *words])


def test_rates_of_every_composition_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, core = saved(tmp_path, "stage"), saved(tmp_path, "core", seed=1)
    for eps in ("0.05", "0.1", "0.05"):
        attack(stage, core, tmp_path / "run", "--threat", f"linf:{eps}")
    entries = json.loads((tmp_path / "run" / "composition.json").read_text("utf-8"))
    assert [entry["eps"] for entry in entries] == ["0.1", "0.05"]
    for entry in entries:
        assert entry["name"] == "stage → core"
        assert entry["images"] == 8
        assert 0 <= entry["attacked"] <= entry["natural"] <= 1
    assert "robust (attacked)" in capsys.readouterr().out


def test_members_that_do_not_fit_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, core = saved(tmp_path, "stage"), saved(tmp_path, "core", classes=9)
    with pytest.raises(SystemExit) as stop:
        attack(stage, core, tmp_path / "run")
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("recuse: 'stage' knows 10 classes but 'core' knows 9")
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "chosen",
    [
        {"stages": ["stage: softmax(threshold=0.3)"], "mixture": None},
        {"stages": ["stage: entropy(threshold=-1.5)", "stage"], "mixture": None},
        {"stages": ["stage: network(threshold=-0.5)"], "mixture": None},
        {"stages": ["stage: indicator(radius=0.2, attack=apgd(steps=3, loss=dlr))"]},
        {"stages": [], "mixture": "one-hot-mixture(stage, core; 0.8)"},
    ],
    ids=("softmax", "two", "network", "other-search", "mixture"),
)
def test_the_system_that_a_search_found_is_attacked_and_can_be_taken_again(
    chosen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [f"{n}={saved(tmp_path, n, seed=s)}" for s, n in enumerate(("stage", "core"))]
    chosen = {"mixture": None} | chosen
    best = tmp_path / "best.json"
    found = {"core": "core", "norm": "linf", "eps": "0.1", "splits": [chosen]}
    best.write_text(json.dumps(found))
    out = tmp_path / "run"
    words = ["--data", "digits", "--limit", "6", "--search", "2", "--out", str(out)]
    if "network" in str(chosen):
        words += ["--selection-network", saved(tmp_path, "judge", classes=2)]
    main(["attack", *where, "--from", str(best), "--targets", "2", "--black-box", "5", *words])
    assert "robust (attacked)" in capsys.readouterr().out
    (record,) = read_records(out / "compositions")
    adversary = record.meta.settings["adversary"]
    assert (adversary["targets"], adversary["attacks"][-1]["kind"]) == (2, "Square")
    if chosen["mixture"]:
        (mixture,) = record.meta.settings["mixtures"]
        assert (mixture["alpha"], mixture["one_hot"], mixture["map"]) == (0.8, True, [])
        assert len(set(mixture["members"])) == 2
    else:
        assert "mixtures" not in record.meta.settings
        assert len(record.meta.tags["members"]) == len(chosen["stages"]) + 1
    # What a search among attacked systems calls it is the same system.
    members = record.meta.settings.get("mixtures", [{"members": ()}])[0]["members"]
    networks = [
        verdicts(make_record(replace(record.meta, weights=w, model=n), record.frame.to_dict()))
        for n, w in zip(("stage", "core"), members, strict=False)
    ]
    again = tmp_path / "again.json"
    title = system_name(verdicts(record), networks)
    again.write_text(json.dumps(found | {"splits": [{"stages": [], "mixture": title}]}))
    first, second = (searched(path, tuple(where)) for path in (best, again))
    assert (first[0], first[2:]) == (second[0], second[2:])
    given = {"net": torch.nn.Identity()}
    one, two = (
        [repr(read_selector(text, Threat("linf", "0.1"), **given)) for text in who[1]]
        for who in (first, second)
    )
    assert one == two


def test_a_network_alone_that_beats_every_system_is_what_is_taken(tmp_path: Path) -> None:
    best = tmp_path / "best.json"
    alone = {"stages": ["weak"], "mixture": None, "alone": "stage", "better_alone": True}
    composed = alone | {"better_alone": False}
    for splits, taken in (
        ([alone, alone, composed], (("stage=here",), ("always()",), None)),
        ([alone, composed, composed], (("weak=weak",), ("indicator",), "core=core")),
    ):
        found = {"core": "core", "norm": "linf", "eps": "0.1", "splits": splits}
        best.write_text(json.dumps(found))
        assert searched(best, ("stage=here",))[:3] == taken


def test_what_a_search_says_is_taken_instead_is_taken(tmp_path: Path) -> None:
    best, split = tmp_path / "best.json", {"mixture": None, "better_alone": False}
    found = {"core": "core", "norm": "linf", "eps": "0.1", "splits": [{"stages": ["a"]} | split]}
    for more, stage in (({}, "a=a"), ({"taken": {"splits": [{"stages": ["b"]} | split]}}, "b=b")):
        best.write_text(json.dumps(found | more))
        assert searched(best, ())[0] == (stage,)


def test_the_core_alone_is_no_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = tmp_path / "best.json"
    found = {"core": "core", "norm": "linf", "eps": "0.1"}
    best.write_text(json.dumps(found | {"splits": [{"stages": [], "mixture": None}]}))
    said = refused(["attack", "--from", str(best), "--data", "digits"], capsys)
    assert "nothing beat the core alone" in said


def test_the_search_of_a_selector_that_names_none_is_known_to_the_study_wing() -> None:
    assert to_plain(DEFAULT_ATTACK) == USUAL_SEARCH
    assert set(SELECTORS.values()) == set(selectors.SELECTORS) - {"certified"}
    assert all(selectors.SELECTORS[name].__name__ == kind for kind, name in SELECTORS.items())


def test_a_systems_folder_is_attacked_as_it_is(tmp_path: Path) -> None:
    stage, core = saved(tmp_path, "stage"), saved(tmp_path, "core", seed=1)
    data = ["--data", "digits", "--limit", "8", "--search", "1"]
    selector = "softmax(threshold=0.1)"
    built = ["--stage", stage, "--core", core, "--selector", selector, "--threat", "linf:0.05"]
    main(["build", "--out", str(tmp_path / "system"), *built, *data])
    main(["attack", "--from", str(tmp_path / "system"), "--out", str(tmp_path / "run"), *data])
    (record,) = read_records(tmp_path / "run" / "compositions")
    # Records of an adversary that aims at no class go on under the key they have.
    assert "targets" not in record.meta.settings["adversary"]
    assert record.meta.settings["selectors"] == [{"kind": "SoftmaxResponse", "threshold": 0.1}]
    assert (record.meta.model, record.meta.radii) == ("stage → core", ("0.05",))


def test_what_cannot_be_attacked_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, core = saved(tmp_path, "stage"), saved(tmp_path, "core", seed=1)
    data = ["--data", "digits", "--out", str(tmp_path / "run")]
    said = refused(["attack", stage, "--core", core, "--selector", "softmax", *data], capsys)
    assert "threshold of a selector is open" in said
    (tmp_path / "empty").mkdir()
    said = refused(["attack", "--from", str(tmp_path / "empty"), *data], capsys)
    assert "is no system" in said
    assert "(--no-core)" in refused(["attack", stage, *data], capsys)
    assert not (tmp_path / "run").exists()
