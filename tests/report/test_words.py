"""What a report prints of keys and configs: words, and values as they are typed."""

import csv
import json
from pathlib import Path

import polars as pl
import pytest

from recuse.analysis.published.cells import PAIR, SINGLE
from recuse.report.charts.curves import CertifiedCurve, certified_accuracy, training_curves
from recuse.report.page.written import written
from recuse.report.paper.words import FORMULAS, formula_words, place_words
from recuse.values import parse_value


def test_every_formula_has_words() -> None:
    assert FORMULAS.keys() == SINGLE.keys() | PAIR.keys()


def test_no_key_of_the_printed_cells_is_left(shared_reference: Path) -> None:
    with (shared_reference / "paper_cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 100
    for row in rows:
        shown = [formula_words(row["formula_id"]), *map(place_words, (row["row"], row["column"]))]
        assert not [text for text in shown if "_" in text]


@pytest.mark.parametrize(
    ("plain", "text"),
    [
        ({"kind": "Threat", "norm": "linf", "eps": 2 / 255}, "linf:2/255"),
        ({"kind": "NoAugment"}, "no_augment"),
        ([1, 0.5, None, True], "[1, 0.5, none, true]"),
        ({"kind": "A", "name": "two words", "path": "it's"}, "a(name='two words', path=\"it's\")"),
        ({"beta": 0.3, "data": {"kind": "Digits", "seed": 0}}, "(beta=0.3, data=digits(seed=0))"),
    ],
)
def test_a_config_is_printed_as_it_is_typed(plain: object, text: str) -> None:
    assert written(plain) == text


def test_a_long_config_takes_lines_and_stays_readable() -> None:
    config = json.loads(Path("results/runs/digits/config.json").read_text())
    text = written(config["models"][0]["train"])
    assert max(map(len, text.splitlines())) <= 100
    read = parse_value(text)
    assert read.name == "train_config"
    assert dict(read.settings)["epochs"].value == config["models"][0]["train"]["epochs"]


def colours(chart: dict) -> list[int]:
    """How many curves each panel tells apart."""
    return [len(panel["encoding"]["color"]["scale"]["domain"]) for panel in chart["concat"]]


def test_a_panel_shows_at_most_eight_curves() -> None:
    log = pl.DataFrame({"epoch": [1, 2], "natural_accuracy": [0.5, 0.6]})
    few, many = (
        training_curves({f"m{n}": log for n in range(count)}).to_dict() for count in (8, 19)
    )
    assert (colours(few), colours(many)) == ([8], [7, 7, 5])
    radius, right = pl.Series([0.1, 0.2]).to_numpy(), pl.Series([True, True]).to_numpy()
    curves = [CertifiedCurve(f"m{n}", "l2", radius, right) for n in range(9)]
    assert colours(certified_accuracy(curves).to_dict()) == [5, 4]
