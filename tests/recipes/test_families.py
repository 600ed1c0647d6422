"""Every table can be typed: names, fields, defaults, and values that come back equal."""

from dataclasses import is_dataclass

import pytest

from recuse.attacks import Apgd, Dlr, Ensemble, Square, TargetedDlr
from recuse.errors import ConfigError
from recuse.models.resnet import CifarResNet
from recuse.recipes.families import VOCABULARY
from recuse.selectors import RobustnessIndicator
from recuse.threat import Threat
from recuse.training import Era, Ramp, Robust, Trades
from recuse.training.reweighted import Gairat, SigmoidWeights
from recuse.training.schedule import Step
from recuse.vocabulary import has_default, settable

COMPLETE = [
    (family.name, name, kind)
    for family in VOCABULARY.families
    for name, kind in family.kinds.items()
    if is_dataclass(kind) and all(has_default(f) for f in settable(kind))
]


@pytest.mark.parametrize(("family", "name", "kind"), COMPLETE, ids=lambda part: str(part))
def test_a_bare_name_is_the_default_and_comes_back(family: str, name: str, kind: type) -> None:
    value = VOCABULARY.read(name, family)
    assert value == kind()
    assert VOCABULARY.read(VOCABULARY.write(value), family) == value
    assert VOCABULARY.read(VOCABULARY.signature(name, kind), family) == value


@pytest.mark.parametrize(
    ("family", "text", "value"),
    [
        ("objective", "era(beta=0.3, robust=trades(gamma=3))", Era(0.3, Trades(3.0))),
        ("objective", "era(ramp=ramp(start=0.2, end=0.5))", Era(ramp=Ramp(0.2, 0.5))),
        ("robust-loss", "gairat(weights=sigmoid(lam=-1.5))", Gairat(SigmoidWeights(-1.5))),
        ("objective", "robust(loss=trades(gamma=3))", Robust(Trades(3.0))),
        ("attack", "apgd(steps=100, loss=dlr)", Apgd(100, Dlr())),
        ("attack", "ensemble", Ensemble((Apgd(), Apgd(loss=Dlr()), Square()))),
        (
            "attack",
            "ensemble(members=[apgd(loss=targeted-dlr(rank=2)), square(queries=10)])",
            Ensemble((Apgd(loss=TargetedDlr(2)), Square(10))),
        ),
        ("schedule", "step(milestones=[0.5, 0.9])", Step((0.5, 0.9))),
        ("architecture", "cifar_resnet(depth=56, dropout=0.1)", CifarResNet(56, dropout=0.1)),
    ],
)
def test_values_read_and_come_back(family: str, text: str, value: object) -> None:
    read = VOCABULARY.read(text, family)
    assert read == value
    assert VOCABULARY.read(VOCABULARY.write(read), family) == value


def test_the_context_settles_what_the_text_leaves_out() -> None:
    budget = Threat("linf", "2/255")
    text = "indicator(radius=3/255, attack=apgd(steps=39))"
    found = VOCABULARY.read(text, "selector", budget=budget)
    assert found == RobustnessIndicator(budget, Apgd(39), radius=3 / 255)
    assert found == VOCABULARY.read("indicator(radius=3/255)", "selector", budget=budget)
    assert VOCABULARY.read(VOCABULARY.write(found), "selector") == found


@pytest.mark.parametrize(
    ("family", "text", "sentence"),
    [
        ("objective", "eraa", "objective 'eraa' is unknown; known: standard, robust, era"),
        (
            "objective",
            "trades(gamma=3)",
            r"no objective but a robust-loss; write robust\(loss=trades\(gamma=3\)\)",
        ),
        ("objective", "era(bta=1)", "no field 'bta'; it has beta, robust"),
        ("objective", "era(robust=3)", "robust takes one of adversarial, trades"),
        ("objective", "era(batch_norm=on)", "takes train or eval, not on"),
        ("objective", "era(hard=1)", "takes true or false, not 1"),
        ("attack", "apgd(steps=1.5)", "whole number, not 1.5"),
        ("attack", "apgd(rho=much)", "takes a number, not much"),
        ("attack", "apgd(loss=foo)", "loss 'foo' is unknown; known: ce"),
        ("attack", "ensemble(members=apgd)", r"takes a list such as \[a, b\], not apgd"),
        ("attack", "3", "takes one of pgd, apgd"),
        ("selector", "indicator", "needs budget; give budget="),
        ("schedul", "step", "family 'schedul' is unknown; known: objective"),
        ("objective", "standard(__class__=1)", "has no field '__class__'"),
    ],
)
def test_bad_values_are_one_sentence(family: str, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        VOCABULARY.read(text, family)
