from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from recuse.analysis.accounting import CoreVerdicts, attacked_account, sound_account
from recuse.analysis.mechanisms import indicator_stage
from recuse.attacks import Apgd
from recuse.certify import GroupSequential
from recuse.composition import AdaptiveAdversary, Cascade, Core, Stage
from recuse.composition.goals import Goal, scored_terms, surrogate_terms
from recuse.errors import ConfigError
from recuse.random import SampleNoise
from recuse.results import Guarantee
from recuse.selectors import (
    CertifiedIndicator,
    RobustMargin,
    RobustnessIndicator,
    RobustSoftmaxResponse,
    SelectionNetwork,
    SoftmaxResponse,
    robust_selection,
    robust_within,
)
from recuse.threat import Threat

EPS = Threat("linf", "0.05")
STRONG = AdaptiveAdversary(steps=20, restarts=2, attacks=(Apgd(),))


def noise_for(x):
    return SampleNoise(0, tuple(str(i) for i in range(len(x))))


def points(n, seed=0):
    return torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def indicator_cascade(linear_models, seed, *, stages):
    exact = linear_models.ExactLinear()
    members = [
        Stage(linear_models.random_linear(7 * seed + i), RobustnessIndicator(EPS, exact), f"s{i}")
        for i in range(stages)
    ]
    return Cascade(tuple(members), Core(linear_models.random_linear(7 * seed + 6)), EPS)


def sound_of(cascade, x, y, exact):
    """The sound accounting from exact verdicts."""
    noise, stages = noise_for(x), []
    for stage in cascade.stages:
        model, selector = stage.model, stage.selector
        stages.append(
            indicator_stage(
                accurate=(model(x).argmax(1) == y).numpy(),
                robust=robust_within(model, x, EPS, exact, noise=noise).numpy(),
                selects=(selector(model, x, noise=noise) == 1).numpy(),
                surely_selects=robust_selection(selector, model, x, noise=noise).numpy(),
            )
        )
    core = cascade.core.model
    right = (core(x).argmax(1) == y).numpy()
    return sound_account(
        stages, CoreVerdicts(right, robust_within(core, x, EPS, exact, noise=noise).numpy())
    )


def grid_breaks(cascade, x, y, *, side=9):
    """Whether the composition errs somewhere on a grid over the ball: a lower bound on truth."""
    steps = torch.linspace(-1, 1, side, dtype=torch.float64)
    moves = EPS.eps * torch.cartesian_prod(steps, steps)
    around = x.repeat(len(moves), 1)
    moved = EPS.project(around + moves.repeat_interleave(len(x), 0), around)
    wrong = cascade(moved, noise=noise_for(moved)).label != y.repeat(len(moves))
    return wrong.view(len(moves), -1).any(0)


@pytest.mark.types_checked_elsewhere
@pytest.mark.parametrize("stages", [0, 1, 2, 3])
@given(seed=st.integers(0, 300))
@settings(max_examples=2, deadline=None)
def test_sound_bound_is_below_the_attacked_accuracy_for_every_sample(linear_models, stages, seed):
    cascade = indicator_cascade(linear_models, seed, stages=stages)
    x = points(80, seed)
    y = linear_models.random_linear(7 * seed)(x).argmax(1)
    found = STRONG(cascade, x, y, noise=noise_for(x))
    sound = sound_of(cascade, x, y, linear_models.ExactLinear())
    attacked = attacked_account(found.correct.numpy(), (~found.robust).numpy())
    assert (attacked.natural == sound.natural).all()
    assert (attacked.robust | ~sound.robust).all()
    # What is claimed is so: the deployed composition errs at the points that are returned.
    answers = cascade(found.x_adv, noise=noise_for(x))
    assert torch.equal(answers.label != y, ~found.robust)
    assert bool(EPS.contains(found.x_adv, x).all())


def test_no_attack_changes_a_selected_answer_of_a_certified_indicator(linear_models):
    """On 1,000 inputs; the adversary is told to make the stage answer anything but F(x)."""
    exact, x = linear_models.ExactLinear(), points(1000)
    stage = linear_models.random_linear(11)
    alone = Cascade(
        (Stage(stage, RobustnessIndicator(EPS, exact)),), Core(linear_models.random_linear(12)), EPS
    )
    found = STRONG(alone, x, stage(x).argmax(1), noise=noise_for(x))
    assert int((found.broken_by == 0).sum()) == 0
    # The same adversary does break softmax response on the same inputs, and the core.
    fooled = Cascade((Stage(stage, SoftmaxResponse(0.5)),), Core(alone.core.model), EPS)
    other = STRONG(fooled, x, stage(x).argmax(1), noise=noise_for(x))
    assert int((other.broken_by == 0).sum()) > 10
    assert int((found.broken_by == 1).sum()) > 10


@pytest.mark.types_checked_elsewhere
@pytest.mark.parametrize("stages", [1, 2])
def test_it_finds_what_a_grid_over_the_ball_finds(linear_models, stages):
    by_grid, missed = 0, 0
    for seed in range(3):
        cascade = indicator_cascade(linear_models, seed, stages=stages)
        x = points(150, seed)
        y = linear_models.random_linear(7 * seed)(x).argmax(1)
        found = STRONG(cascade, x, y, noise=noise_for(x))
        grid = grid_breaks(cascade, x, y)
        by_grid += int(grid.sum())
        missed += int((grid & found.robust).sum())
    assert by_grid > 80
    assert missed <= 0.03 * by_grid


@pytest.mark.types_checked_elsewhere
def test_plain_attacks_alone_find_less(linear_models):
    """A plain attack on the core does not know that a stage must abstain first."""
    joint = plain = 0
    for seed in range(3):
        cascade = indicator_cascade(linear_models, seed, stages=1)
        x = points(150, seed)
        y = linear_models.random_linear(7 * seed)(x).argmax(1)
        joint += int((~STRONG(cascade, x, y, noise=noise_for(x)).robust).sum())
        core = Apgd()(cascade.core.model, x, y, EPS, noise=noise_for(x)).x_adv
        stage = Apgd()(cascade.stages[0].model, x, y, EPS, noise=noise_for(x)).x_adv
        wrong = [cascade(p, noise=noise_for(x)).label != y for p in (x, core, stage)]
        plain += int(torch.stack(wrong).any(0).sum())
    assert joint > plain


def test_cost_attack_reaches_the_core_exactly_off_the_doubled_radius(linear_models):
    cascade = indicator_cascade(linear_models, 3, stages=1)
    x = points(300)
    y = cascade.stages[0].model(x).argmax(1)
    found = STRONG(cascade, x, y, noise=noise_for(x))
    stage = cascade.stages[0]
    sure = robust_selection(stage.selector, stage.model, x, noise=noise_for(x))
    assert not bool((found.reached_core & sure).any())
    # For one linear boundary near x, abstention is reachable iff not robust at 2 eps.
    assert int((found.reached_core == ~sure).sum()) >= 0.99 * 300
    answers = cascade(found.x_costly, noise=noise_for(x))
    assert torch.equal(answers.stage == 1, found.reached_core)
    assert bool((found.abstained[:, 0] >= found.reached_core).all())
    natural = cascade.traced(x, noise=noise_for(x))
    attacked = cascade.traced(found.x_costly, noise=noise_for(x))
    assert attacked.entered[1] > natural.entered[1]


@dataclass(frozen=True)
class Rounded:
    """Softmax response on confidences rounded to tenths: no gradient anywhere."""

    threshold: float = 0.8
    guarantee: Guarantee = Guarantee.NONE

    def __call__(self, model, x, *, noise):
        with torch.no_grad():
            return (model(x).softmax(1).amax(1) * 10).round() / 10


def test_a_selector_without_gradient_is_named_and_searched_by_queries(linear_models):
    x = points(200)
    core = linear_models.random_linear(5)
    y = core(x).argmax(1)
    stage = Stage(linear_models.random_linear(4), Rounded(), "stepped")
    cascade = Cascade((stage,), Core(core), EPS)
    blind = AdaptiveAdversary(steps=5, queries=0)(cascade, x, y, noise=noise_for(x))
    seeing = AdaptiveAdversary(steps=5, queries=100)(cascade, x, y, noise=noise_for(x))
    assert len(blind.notes) == len(seeing.notes) == 1
    assert "'stepped' (Rounded) has no gradient" in blind.notes[0]
    assert "not attacked" in blind.notes[0]
    assert "100 queries" in seeing.notes[0]
    assert int(seeing.robust.sum()) < int(blind.robust.sum())
    assert not bool((seeing.robust & ~blind.robust).any())
    smooth = Cascade((Stage(stage.model, SoftmaxResponse(0.75)),), Core(core), EPS)
    assert AdaptiveAdversary(steps=5)(smooth, x, y, noise=noise_for(x)).notes == ()


@dataclass(frozen=True)
class Blind:
    """A selector whose surrogate knows the ball but neither the threshold nor what it asks for."""

    selector: RobustMargin | RobustSoftmaxResponse
    guarantee: Guarantee = Guarantee.ATTACKED

    @property
    def threshold(self):
        return self.selector.threshold

    def __call__(self, model, x, *, noise):
        return self.selector(model, x, noise=noise)

    def surrogate(self, model, x, labels, *, noise):
        stable = RobustnessIndicator(self.selector.budget, self.selector.attack)
        return stable.surrogate(model, x, labels, noise=noise)


@pytest.mark.parametrize("kind", [RobustMargin, RobustSoftmaxResponse])
@pytest.mark.parametrize("stages", [1, 2])
def test_an_adversary_that_knows_the_threshold_leaves_less(linear_models, kind, stages):
    """In 12 dimensions, where abstaining and fooling the core ask for different directions."""
    x = torch.rand(200, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    models = [linear_models.random_linear(i, inputs=12, scale=3.0) for i in range(stages + 1)]
    y = models[0](x).argmax(1)
    selector, left = kind(EPS, linear_models.ExactLinear(), 0.7), []
    for deployed in (selector, Blind(selector)):
        members = tuple(Stage(m, deployed, f"s{i}") for i, m in enumerate(models[:-1]))
        cascade = Cascade(members, Core(models[-1]), EPS)
        found = AdaptiveAdversary(steps=8)(cascade, x, y, noise=noise_for(x))
        left.append(found.robust)
    knows, blind = left
    assert int(knows.sum()) < int(blind.sum())
    assert not bool((knows & ~blind).any())


class Unseen(CertifiedIndicator):
    """The same selector, its surrogate withheld from the adversary."""

    differentiable = False


def test_a_certified_stage_is_attacked_by_its_votes(linear_models):
    """The adversary makes it abstain, which takes the smoothed class and the deployed radius."""
    l2, certifier = Threat("l2", 0.15), GroupSequential(0.15, n_max=1000)
    x = torch.rand(80, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    models = [linear_models.random_linear(i, inputs=12, scale=3.0) for i in range(2)]
    y = models[0](x).argmax(1)
    left = []
    for kind in (CertifiedIndicator, Unseen):
        cascade = Cascade((Stage(models[0], kind(l2, certifier), "s"),), Core(models[1]), l2)
        found = AdaptiveAdversary(steps=8, queries=0)(cascade, x, y, noise=noise_for(x))
        left.append((int(found.robust.sum()), len(found.notes)))
    (seen, notes), (unseen, warned) = left
    assert seen < unseen
    assert (notes, warned) == (0, 1)


class Odd(nn.Module):
    """Answers 1 at the very centre, and 0 everywhere else."""

    def forward(self, x):
        odd = (x == 0.5).all(1)
        return torch.stack([~odd, odd], 1).to(x.dtype)


def test_what_an_adversary_calls_wrong_is_what_the_stage_answers():
    x, y = torch.full((1, 4), 0.5, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    l2 = Threat("l2", 0.05)
    stage = Stage(Odd().eval(), CertifiedIndicator(l2, GroupSequential(0.05, n_max=500)))
    cascade = Cascade((stage,), Core(Odd().eval()), l2)
    assert cascade(x, noise=noise_for(x)).label.tolist() == [0]
    for goal, wrong in ((Goal(0), False), (Goal(1), True)):  # the stage, and the core
        for terms in (
            surrogate_terms(cascade, goal, x, y, noise=noise_for(x)).wanted,
            scored_terms(cascade, goal, x, y, noise=noise_for(x)),
        ):
            place = 0 if goal.stage == 0 else 1  # after the stage's abstaining
            assert (terms[place] > 0).tolist() == [wrong]


def test_a_selector_that_always_answers_hides_nothing(linear_models):
    """Infinitely far from abstaining, but its answer can be attacked as if it stood alone."""
    x, net = points(120), linear_models.random_linear(3)
    y, judge = net(x).argmax(1), linear_models.random_linear(8, classes=2)
    stage = Stage(net, SelectionNetwork(judge, float("-inf")), "always")
    members = ((stage,), Core(linear_models.random_linear(5))), ((), Core(net))
    found = [
        AdaptiveAdversary(steps=10)(Cascade(*pair, EPS), x, y, noise=noise_for(x)).robust
        for pair in members
    ]
    assert torch.equal(*found)
    assert 10 < int(found[0].sum()) < 110


def test_it_leaves_the_networks_alone(linear_models):
    cascade = indicator_cascade(linear_models, 1, stages=2)
    before = [p.clone() for m in cascade.models for p in m.parameters()]
    cascade.core.model.train()
    x = points(20)
    STRONG(cascade, x, cascade.core.model(x).argmax(1), noise=noise_for(x))
    after = [p for m in cascade.models for p in m.parameters()]
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, after, strict=True))
    assert cascade.core.model.training


def test_zero_budget_changes_nothing(linear_models):
    none = Threat("linf", 0.0)
    cascade = Cascade(
        (Stage(linear_models.random_linear(1), SoftmaxResponse(0.7)),),
        Core(linear_models.random_linear(2)),
        none,
    )
    x = points(40)
    y = linear_models.random_linear(3)(x).argmax(1)
    found = STRONG(cascade, x, y, noise=noise_for(x))
    assert torch.equal(found.robust, found.correct)


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"restarts": 0}, {"queries": -1}, {"targets": -1}]
)
def test_settings_that_cannot_run_are_refused(options):
    with pytest.raises(ConfigError, match="at least one step"):
        AdaptiveAdversary(**options)
