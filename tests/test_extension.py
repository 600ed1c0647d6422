"""A selector, a certifier and a loss from outside: a file of one's own and a row of a table each.

What a row is added to is all that the library knows: no class is registered, derived or patched.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from recuse.certify import CERTIFIERS
from recuse.cli.main import main
from recuse.composition import Cascade, Core, Stage
from recuse.data import source
from recuse.evaluation.certify_dataset import Certification, certify_dataset
from recuse.protocols import Certifier, Selector
from recuse.random import SampleNoise
from recuse.recipes.config import config_classes
from recuse.recipes.families import VOCABULARY
from recuse.records.store import read_records
from recuse.results import Certificate, Guarantee
from recuse.selectors import SELECTORS
from recuse.serialize import from_plain, to_plain
from recuse.threat import Threat
from recuse.training import ROBUST_LOSSES, Era, Robust
from recuse.training.adversarial import anywhere, away_from_the_label
from recuse.training.robust import Pair, RobustLoss

BUDGET = Threat("l2", 0.1)
NETS = """
import torch
from torch import nn

def build(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def core():
    return build(1)
"""


@dataclass(frozen=True)
class Gap:
    """Selects where the two most likely classes are ``threshold`` apart."""

    threshold: float

    @property
    def guarantee(self):
        return Guarantee.NONE

    @torch.no_grad()
    def __call__(self, model, x, *, noise):
        first, second = model(x).softmax(1).topk(2).values.T
        return first - second


@dataclass(frozen=True)
class Distance:
    """Proves by the exact L2 distance to the boundary of a linear network."""

    tightness: float = 1.0
    norm: str = "l2"
    method: str = "distance"

    @torch.no_grad()
    def decide(self, model, x, radii, *, noise):
        weight = next(m for m in model.modules() if isinstance(m, nn.Linear)).weight
        logits = model(x)
        label = logits.argmax(1)
        gap = logits.gather(1, label[:, None]) - logits
        length = (weight[label][:, None] - weight[None]).norm(dim=2)
        apart = (self.tightness * gap / length).masked_fill(length == 0, torch.inf).amin(1)
        reached = apart.double()[:, None] > torch.tensor(radii, dtype=torch.float64)
        none = torch.zeros(len(x), dtype=torch.int64)
        attainable = (True,) * len(radii)
        return Certificate(tuple(radii), reached, attainable, label, none, bound=apart.double())


@dataclass(frozen=True)
class Brier:
    """Squared distance between the probabilities at the adversarial example and the label."""

    weight: float = 1.0
    looks_at_clean = False
    ascent = staticmethod(away_from_the_label)
    start = staticmethod(anywhere)

    def loss(self, pair: Pair):
        wanted = nn.functional.one_hot(pair.y, pair.logits_adv.shape[1])
        return self.weight * (pair.logits_adv.softmax(1) - wanted).square().sum(1)


@pytest.fixture
def rows(monkeypatch):
    """The three rows, as a package of one's own would write them."""
    monkeypatch.setitem(SELECTORS, "gap", Gap)
    monkeypatch.setitem(CERTIFIERS, "distance", Distance)
    monkeypatch.setitem(ROBUST_LOSSES, "brier", Brier)


@pytest.fixture
def nets(tmp_path, monkeypatch):
    (tmp_path / "outside_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    space = {}
    exec(NETS, space)
    return space["build"]().eval(), space["core"]().eval()


def test_a_selector(rows, nets, tmp_path):
    assert isinstance(Gap(0.3), Selector)
    assert VOCABULARY.read("gap(threshold=0.3)", "selector") == Gap(0.3)
    split = source("digits").load_test().head(12)
    stage, core = nets
    cascade = Cascade((Stage(stage, Gap(0.3), "stage"),), Core(core, "core"), BUDGET)
    answers = cascade(split.images)
    scores = Gap(0.3)(stage, split.images, noise=SampleNoise(0, split.ids))
    assert answers.selected.tolist() == (scores >= 0.3).tolist()
    words = "outside_nets:build --core outside_nets:core --data digits --limit 12 --search 1"
    typed = ["--selector", "gap(threshold=0.3)", "--threat", "l2:0.1", "--device", "cpu"]
    main(["attack", *words.split(), *typed, "--out", str(tmp_path / "run")])
    (record,) = read_records(tmp_path / "run" / "compositions")
    assert record.meta.settings["selectors"] == [{"kind": "Gap", "threshold": 0.3}]
    assert record.frame["selected"].to_list() == answers.selected.tolist()


def test_a_certifier(rows, nets, tmp_path):
    assert isinstance(Distance(), Certifier)
    assert VOCABULARY.read("distance(tightness=0.5)", "certifier") == Distance(0.5)
    split, stage = source("digits").load_test().head(12), nets[0]
    plan = Certification(Distance(), (0.05, 0.2))
    proven = certify_dataset(stage, split, plan, name="net", records=tmp_path / "records")
    assert (proven.meta.method, proven.meta.norm) == ("distance", "l2")
    bound = Distance().decide(stage, split.images, (0.05,), noise=SampleNoise(0, split.ids)).bound
    np.testing.assert_array_equal(proven.frame["certified@0.05"], bound.numpy() > 0.05)
    words = "certify outside_nets:build --data digits --limit 12 --eps l2:0.05 --device cpu"
    main([*words.split(), "--certifier", "distance(tightness=0.5)", "--out", str(tmp_path / "run")])
    (record,) = read_records(tmp_path / "run")
    np.testing.assert_array_equal(record.frame["certified@0.05"], bound.numpy() / 2 > 0.05)


def test_a_loss(rows, nets):
    assert isinstance(Brier(), RobustLoss)
    objective = VOCABULARY.read("era(beta=0.3, robust=brier(weight=2))", "objective")
    assert objective == Era(beta=0.3, robust=Brier(2.0))
    assert VOCABULARY.write(objective) == "era(beta=0.3, robust=brier(weight=2))"
    assert from_plain(to_plain(objective), config_classes()) == objective
    split, model = source("digits").load_test().head(12), nets[0].train()
    terms = VOCABULARY.read("robust(loss=brier(weight=2))", "objective")(
        model, split.images, split.labels, BUDGET, noise=SampleNoise(0, split.ids)
    )
    once = Robust(loss=Brier())(
        model, split.images, split.labels, BUDGET, noise=SampleNoise(0, split.ids)
    )
    torch.testing.assert_close(terms.total, 2 * once.total)
    terms.total.mean().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in model.parameters())


def test_the_library_is_left_as_it_was():
    assert not {"gap", "distance", "brier"} & {*SELECTORS, *CERTIFIERS, *ROBUST_LOSSES}
