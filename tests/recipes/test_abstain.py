"""Ways to abstain at their operating points: each is deployed as named, attacked, and kept."""

import numpy as np
import pytest
import torch
from torch import nn

from recuse.analysis.operating_points import CORE, NETS, ROBUST, TRUNK, Setting
from recuse.analysis.sweeps import Point
from recuse.data import Digits
from recuse.recipes import abstain, recipe
from recuse.selectors import (
    EntropyResponse,
    RobustMargin,
    RobustnessIndicator,
    SelectionNetwork,
    SoftmaxResponse,
)

IMAGES = 7
PLAN = recipe("selectors", quick=True).abstention
ONE, TWO = (ROBUST,), (ROBUST, TRUNK)
# Mechanism, its stages and thresholds, the weight of a mixture, the selector of its first stage.
SETTINGS = [
    ("core alone", (), None, None),
    ("robust alone", (), None, None),
    ("indicator", ONE, None, RobustnessIndicator),
    ("robust margin", ONE, None, RobustMargin),
    ("cascade of two", TWO, None, RobustMargin),
    ("softmax response", ONE, None, SoftmaxResponse),
    ("entropy response", ONE, None, EntropyResponse),
    ("selection network", ONE, None, SelectionNetwork),
    ("selection network (ACE-IBP)", (TRUNK,), None, SelectionNetwork),
    ("mixture", (), 0.5, None),
]


def network(seed, classes=10):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(64, classes)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return nn.Sequential(nn.Flatten(), layer).eval()


def setting(name, models, share, tau=0.6):
    natural = np.ones(IMAGES, dtype=bool)
    return Setting(name, "2/255", Point(name, models, (tau,) * len(models), natural, None), share)


@pytest.fixture(scope="module")
def networks():
    named = {name: network(seed) for seed, name in enumerate((CORE, ROBUST, TRUNK))}
    return named | {name: network(9, classes=2) for name in NETS}


@pytest.mark.parametrize(("name", "models", "share", "kind"), SETTINGS, ids=lambda v: str(v)[:30])
def test_every_mechanism_is_deployed_as_named_and_attacked(name, models, share, kind, networks):
    tau = -0.6 if kind is EntropyResponse else 0.6
    split, point = Digits().load_test().head(IMAGES), setting(name, models, share, tau)
    cascade = abstain.deployed(point, networks, PLAN)
    assert [stage.name for stage in cascade.stages] == list(models)
    assert all(isinstance(stage.selector, kind) for stage in cascade.stages)
    if share is None:
        assert cascade.core.model is networks[ROBUST if name == "robust alone" else CORE]
    rows = abstain.attacked_rows(point, cascade, PLAN, split)
    assert rows["sample_id"].to_list() == list(split.ids)
    assert not (rows["attacked"] & ~rows["correct"]).any()
    assert not (rows["asks_core"] & ~rows["asks_core_attacked"]).any()
    assert (rows["broken_by"] >= 0).to_list() == (~rows["attacked"]).to_list()
    assert rows["cost"][0] >= (2 if name == "mixture" else 1)


def test_a_second_run_attacks_only_what_is_missing(networks, tmp_path, monkeypatch):
    split, point = Digits().load_test().head(IMAGES), setting("softmax response", ONE, None)
    cascade = abstain.deployed(point, networks, PLAN)
    monkeypatch.setattr(abstain, "CHUNK", 2)
    first = abstain._attacked(point, cascade, PLAN, split, tmp_path)
    assert [len(frame) for frame in first] == [2, 1]
    (tmp_path / next(tmp_path.iterdir()) / "00002.parquet").unlink()
    asked, attack = [], abstain.attacked_rows
    monkeypatch.setattr(
        abstain, "attacked_rows", lambda *given: asked.append(given[-1].ids) or attack(*given)
    )
    again = abstain._attacked(point, cascade, PLAN, split, tmp_path)
    assert asked == [(split.ids[5],)]
    assert all(one.equals(two) for one, two in zip(first, again, strict=True))
