"""One recipe at many settings: the cells, and carrying them out once each."""

from pathlib import Path

import pytest

from recuse.errors import ConfigError
from recuse.recipes import RunLocation
from recuse.recipes import sweep as module
from recuse.recipes.sweep import Axis, cells, sweep
from recuse.records.layout import CONFIG, REPORT
from recuse.records.places import place


def axes(*texts: str) -> list[Axis]:
    return [Axis.parse(text) for text in texts]


def test_every_combination_is_a_cell_with_its_settings() -> None:
    found = cells("digits", axes("objective.beta=0.1,0.3", "seed=3..4"))
    assert [cell.name for cell in found] == [
        "objective.beta=0.1,seed=3",
        "objective.beta=0.1,seed=4",
        "objective.beta=0.3,seed=3",
        "objective.beta=0.3,seed=4",
    ]
    last = found[-1].config
    betas = {plan.name: getattr(plan.train.objective, "beta", None) for plan in last.models}
    assert {beta for beta in betas.values() if beta is not None} == {0.3}
    assert betas["core"] is None
    assert {plan.train.seed for plan in last.models} == {4}


def test_a_whole_number_for_a_real_field_is_taken_as_real() -> None:
    (cell,) = cells("digits", axes("lr=1"))
    assert {plan.train.lr for plan in cell.config.models} == {1.0}
    assert type(cell.config.models[0].train.lr) is float


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (("objective.gamma=6", "objective.gamma=7"), "different paths"),
        ((), "needs axes"),
        (("objective.nonsense=1",), "known: threat, seed, epochs, limit.*lr.*objective.beta"),
        (("objective=3",), "trains nothing with a field"),
        (("seed=4..1",), "no axis"),
        (("seed=1,1",), "no axis"),
        (("seed",), "no axis"),
        (("=1",), "no axis"),
        (("seed=0..99999",), "no axis"),
        (("seed=0..999", "epochs=1..999"), "too many"),
        (("lr=-1",), "needs a value above 0"),
        (("lr=wide",), "lr"),
        (("threat=l7:1",), "l7"),
        (("objective.beta=era(beta=1)",), "numbers and words"),
    ],
)
def test_what_cannot_be_swept_is_one_sentence(texts: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        cells("digits", axes(*texts))


def test_cells_that_are_finished_are_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def run(config: object, place: RunLocation) -> None:
        ran.append(place.out.name)
        (place.out / REPORT).touch()
        if len(ran) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module, "write_report", lambda runs, path: path)
    found, place = cells("digits", axes("seed=0..2"), quick=True), RunLocation(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        sweep(found, place)
    assert sweep(found, place) == tmp_path / REPORT
    assert ran == ["seed=0", "seed=1", "seed=2"]
    other = cells("digits", axes("seed=0..2"))
    with pytest.raises(ConfigError, match="holds a different run"):
        sweep(other, place)


@pytest.mark.slow
@pytest.mark.parametrize("behind_url", [False, True])
def test_a_sweep_runs_its_cells_and_reports_on_them(tmp_path: Path, behind_url: bool) -> None:
    found = cells("digits", axes("seed=0,1", "epochs=1", "limit=8"), quick=True)
    out, told = place("memory://sweep") if behind_url else tmp_path, []
    path = sweep(found, RunLocation(out), progress=lambda *words: told.append(words[1:3]))
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert all((out / cell.name / CONFIG).is_file() for cell in found)
    assert "seed=1" in path.read_text(encoding="utf-8")
    assert path == out / REPORT
    assert sweep(found, RunLocation(out)) == path  # nothing left to do
