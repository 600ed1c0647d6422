"""Time that runs out makes a cascade abstain: never a core that answers what was not checked."""

import time

import pytest
import torch
from torch import nn

from recuse.attacks import Apgd
from recuse.composition import AdaptiveAdversary, Cascade, Core, Stage
from recuse.errors import ConfigError
from recuse.random import SampleNoise
from recuse.selectors import RobustnessIndicator, SoftmaxResponse
from recuse.threat import Threat

EPS = Threat("linf", "0.05")


class Slow(nn.Module):
    """A classifier that takes its time from some pass on."""

    def __init__(self, inner, *, free=0, seconds=0.05):
        super().__init__()
        self.inner, self.passes, self.free, self.seconds = inner, 0, free, seconds

    def forward(self, x):
        self.passes += 1
        if self.passes > self.free:
            time.sleep(self.seconds)
        return self.inner(x)


def noise_for(x):
    return SampleNoise(0, tuple(str(i) for i in range(len(x))))


def points(n):
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(0))


def line(seed):
    torch.manual_seed(seed)
    return nn.Linear(2, 2)


def test_without_a_limit_nothing_is_late():
    x = points(20)
    cascade = Cascade((Stage(line(0), SoftmaxResponse(0.6)),), Core(line(1)), EPS)
    plain, ample = (cascade.traced(x, noise=noise_for(x), end=e) for e in (None, float("inf")))
    assert plain.prediction.timed_out is None
    assert not ample.prediction.timed_out.any()
    assert torch.equal(plain.prediction.label, ample.prediction.label)


def test_what_an_earlier_stage_decided_stays_and_the_rest_is_not_answered():
    x, slow = points(60), Slow(line(1), seconds=0.02)
    stages = (Stage(line(0), SoftmaxResponse(0.6)), Stage(slow, RobustnessIndicator(EPS, Apgd())))
    cascade = Cascade(stages, Core(line(2)), EPS)
    trace = cascade.traced(x, noise=noise_for(x), end=time.monotonic() + 0.1)
    answers, passes = trace.prediction, slow.passes
    first = cascade.traced(x, noise=noise_for(x)).prediction.stage == 0
    assert passes <= 6  # of 0.02 s, one of which may end late
    assert 0 < int(first.sum()) < 60
    assert torch.equal(answers.timed_out, ~first)
    assert torch.equal(answers.abstained, ~first)
    assert torch.equal(answers.selected, first)
    assert not slow._forward_pre_hooks
    assert trace.entered[-1] == 0  # the core was asked about nothing


@pytest.mark.parametrize("late", ["stage", "core"])
def test_no_time_at_all_is_no_answer_at_all(late):
    x = points(8)
    stages = () if late == "core" else (Stage(line(0), SoftmaxResponse(0.5)),)
    cascade = Cascade(stages, Core(line(1)), EPS)
    answers = cascade.traced(x, noise=noise_for(x), end=time.monotonic()).prediction
    assert answers.timed_out.all()
    assert answers.abstained.all()
    assert not answers.selected.any()


def test_models_are_left_as_they_were_found():
    x, model = points(8), Slow(line(0), free=2)
    model.train()
    cascade = Cascade((Stage(model, RobustnessIndicator(EPS, Apgd())),), Core(line(1)), EPS)
    cascade.traced(x, noise=noise_for(x), end=time.monotonic() + 0.06)
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_nobody_answers_what_no_stage_selects():
    x = points(200)
    cascade = Cascade((Stage(line(0), SoftmaxResponse(0.7)),), None, EPS)
    trace = cascade.traced(x, noise=noise_for(x))
    answers = trace.prediction
    confident = line(0)(x).softmax(1).amax(1) >= 0.7
    assert 0 < int(confident.sum()) < 200
    assert torch.equal(answers.abstained, ~confident)
    assert torch.equal(answers.selected, confident)
    assert torch.equal(answers.label >= 0, confident)
    assert answers.stage.tolist() == [0 if c else 1 for c in confident.tolist()]
    assert trace.entered == (200, int((~confident).sum()))
    assert trace.cost == 1


def test_an_adversary_without_a_core_to_fool_makes_stages_abstain():
    x, model = points(40), line(0)
    y = model(x).argmax(1)
    cascade = Cascade((Stage(model, RobustnessIndicator(EPS, Apgd(steps=9))),), None, EPS)
    found = AdaptiveAdversary(steps=5, attacks=(Apgd(steps=9),))(cascade, x, y, noise=noise_for(x))
    w = (model.weight[0] - model.weight[1]).detach()
    distance = ((x @ w + model.bias[0] - model.bias[1]).abs() / w.abs().sum()).detach()
    assert torch.equal(found.correct, distance > EPS.eps)
    assert bool((found.robust == (distance > 2 * EPS.eps)).float().mean() > 0.9)
    assert bool(found.robust[distance > 2 * EPS.eps].all())
    broken = found.correct & ~found.robust
    assert bool((found.broken_by[broken] == 1).all())  # nobody, never a wrong answer


def test_a_cascade_of_nobody_is_refused():
    with pytest.raises(ConfigError, match="answers nothing"):
        Cascade((), None, EPS)
