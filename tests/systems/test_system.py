"""Asking a system in Python: answers in words, the same for any batch and order."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from recuse.attacks import Apgd
from recuse.composition import Cascade, Core, Stage
from recuse.data import Splits
from recuse.errors import ConfigError, DataError
from recuse.evaluation import Evaluation, evaluate
from recuse.random import SampleNoise
from recuse.selectors import RobustnessIndicator
from recuse.systems import Answer, System
from recuse.systems import system as module
from recuse.systems.estimator import SystemClassifier

from .conftest import BUDGET, FORM, LABELS, card


def test_answers_are_those_of_the_cascade(built: System, digits: Splits) -> None:
    images, n = digits.validation.images[:50], 50
    found = built.predict(images, seed=1)
    plain = built.cascade(images, noise=SampleNoise(1, tuple(map(str, range(n)))))
    assert found.label == plain.label.tolist()
    assert found.selected == plain.selected.tolist()
    assert found.stage == [built.cascade.names[i] for i in plain.stage.tolist()]
    assert found.name == [LABELS[i] for i in plain.label.tolist()]
    assert not any(found.abstained)
    assert {"era", "core"} == set(found.stage)
    for answer in found:
        attacked = answer.stage == "era"
        assert answer.guarantee == ("attacked" if attacked else "none")
        assert answer.radius == ("linf:0.05" if attacked else None)
        assert (answer.score is None) != attacked
        assert answer.passes > 1


def test_a_prediction_is_a_sequence_of_answers(built: System, pictures: np.ndarray) -> None:
    found = built.predict(pictures)
    assert len(found) == 8
    assert [answer.label for answer in found] == found.label
    assert found[2:4].label == found.label[2:4]
    assert isinstance(found[0], Answer)
    row = found[0].row("a.png")
    assert list(row) == [
        "input", "label", "name", "abstained", "stage", "selected", "guarantee", "radius", "score",
        "passes", "timed_out", "error",
    ]  # fmt: skip
    one = built.predict(pictures[0])
    assert len(one) == 1
    assert one.label == found.label[:1]
    assert len(built.predict([])) == 0


def test_answers_with_a_seed_depend_on_neither_batch_nor_order(
    built: System, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = digits.validation.images[:40]
    whole = built.predict(images, seed=7)
    monkeypatch.setattr(module, "ROWS", 7)
    in_parts = built.predict(images, seed=7)
    backwards = built.predict(images.flip(0), seed=7)
    for field in ("label", "stage", "selected", "score"):
        assert getattr(in_parts, field) == getattr(whole, field)
        assert getattr(backwards, field) == getattr(whole, field)[::-1]


def test_fresh_noise_is_fresh(built: System, pictures: np.ndarray) -> None:
    one, other = (module.noise_of(torch.zeros(2, 1, 8, 8), None) for _ in range(2))
    assert one.seed != other.seed
    seeded = module.noise_of(torch.zeros(2, 1, 8, 8), 3)
    assert seeded.seed == 3


class Hungry(nn.Module):
    """A network that holds so many images at once."""

    def __init__(self, inner: nn.Module, most: int) -> None:
        super().__init__()
        self.inner, self.most = inner, most

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 TB")
        return self.inner(x)


def test_a_batch_that_does_not_fit_is_halved_and_said(accurate: nn.Module, digits: Splits) -> None:
    def system(most: int) -> System:
        core = Core(Hungry(accurate, most), "core")
        return System("s", Cascade((), core, BUDGET), LABELS, FORM)

    images, said = digits.test.images[:20], []
    found = system(3).predict(images, say=said.append)
    assert found.label == accurate(images).argmax(1).tolist()
    assert said == [
        "20 images at once do not fit into memory; going on with 10",
        "10 images at once do not fit into memory; going on with 5",
        "5 images at once do not fit into memory; going on with 2",
    ]
    hungry = system(3)
    hungry.cascade.core.model.most = 0
    with pytest.raises(DataError, match="one image alone does not fit"):
        hungry.predict(images)


def test_out_of_time_is_an_abstention(built: System, digits: Splits) -> None:
    found = built.predict(digits.test.images[:5], end=time.monotonic())
    assert all(answer.timed_out and answer.abstained for answer in found)
    assert all(answer.label is None and answer.guarantee == "none" for answer in found)


def test_labels_and_networks_that_do_not_fit_are_refused(accurate: nn.Module) -> None:
    cascade = Cascade((), Core(accurate, "core"), BUDGET)
    with pytest.raises(ConfigError, match="names 3 classes but its networks tell 10 apart"):
        System("s", cascade, LABELS[:3], FORM)
    with pytest.raises(DataError, match="cannot read images"):
        System("s", cascade, LABELS, type(FORM)(3, (8, 8)))


class Halfspace(nn.Module):
    """Class 1 where the first pixel is above a half: the nearest other answer is known."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = x[:, 0, 0, 0] - 0.5
        return torch.stack([-score, score], 1)


@pytest.mark.parametrize("value", [0.9, 0.52, 0.3])
def test_the_nearest_other_answer_is_found(value: float) -> None:
    selector = RobustnessIndicator(BUDGET, Apgd(steps=9))
    cascade = Cascade((Stage(Halfspace(), selector, "half"),), Core(Halfspace(), "core"), BUDGET)
    system = System("s", cascade, ("low", "high"), FORM)
    found = system.explain(torch.full((1, 8, 8), value), seed=0)
    distance = abs(value - 0.5)
    assert found.distance == pytest.approx(distance, abs=0.005)
    assert (found.name, found.other_name) == (("high", "low") if value > 0.5 else ("low", "high"))
    assert found.within == (distance < 0.05)
    assert found.stage == "half"  # who answers, or who stood aside
    assert found.picture.shape == (1, 8, 8)
    assert float(Halfspace()(found.picture[None]).argmax()) == found.other_label
    assert found.other_name in found.sentence
    assert "\n" not in found.sentence


class Constant(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.flatten(1).sum(1) * 0 + 1, x.flatten(1).sum(1) * 0], 1)


def test_where_there_is_no_other_answer_none_is_made_up() -> None:
    cascade = Cascade((), Core(Constant(), "core"), BUDGET)
    found = System("s", cascade, ("a", "b"), FORM).explain(torch.zeros(1, 8, 8), seed=0)
    assert (found.distance, found.other_name, found.within) == (None, None, False)
    assert "no neighbour" in found.sentence
    with pytest.raises(DataError, match="one image is explained at a time"):
        System("s", cascade, ("a", "b"), FORM).explain(torch.zeros(2, 1, 8, 8))


def test_what_evaluate_returns_says_its_rates(
    robust: nn.Module, digits: Splits, tmp_path: Path
) -> None:
    split = digits.test.head(60)
    how = Evaluation("linf", (0.05, 0.1), Apgd(steps=5))
    found = evaluate(robust, split, how, name="era", records=tmp_path)
    (first,) = found.rates()  # the radius whose double was judged as well
    right = found.frame["accurate"].to_numpy()
    stable = found.frame["robust@0.05"].to_numpy()
    assert first.natural.estimate == pytest.approx(right.mean())
    assert first.robust.estimate == pytest.approx((right & stable).mean())
    assert first.robust_inaccuracy.estimate == pytest.approx((~right & stable).mean())
    assert first.natural.low < first.natural.estimate < first.natural.high
    assert first.selected.estimate == pytest.approx(found.frame["robust@0.1"].mean())


def test_a_system_is_a_classifier_of_scikit_learn(saved: Path, digits: Splits) -> None:
    from sklearn.base import clone
    from sklearn.metrics import accuracy_score

    x, y = digits.test.images[:40].numpy(), digits.test.labels[:40].numpy()
    model = clone(SystemClassifier(saved, seed=2)).fit(x, y)
    assert model.get_params() == {"system": saved, "seed": 2}
    labels = model.predict(x)
    assert labels.shape == (40,)
    assert model.score(x, y) == accuracy_score(y, labels) > 0.8
    assert model.decide(x).label == labels.tolist()
    with pytest.raises(ConfigError, match="class 11 is none of the 10"):
        model.fit(x, y + 2 * (y == 9))


def test_an_abstention_is_no_right_answer(robust: nn.Module, digits: Splits) -> None:
    selector = RobustnessIndicator(BUDGET, Apgd(steps=9))
    alone = Cascade((Stage(robust, selector, "era", card("era")),), None, BUDGET)
    model = SystemClassifier(System("s", alone, LABELS, FORM))
    x, y = digits.test.images[:60], digits.test.labels[:60].numpy()
    labels = model.predict(x)
    assert 0 < (labels == -1).sum() < 60
    assert model.score(x, y) == pytest.approx((labels == y).mean())
    assert not any(math.isnan(s) for s in model.decide(x).score if s is not None)
