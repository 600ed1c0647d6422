import inspect
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import recuse.selectors as room
from recuse.attacks import Apgd
from recuse.certify.ibp import Ibp
from recuse.errors import ConfigError
from recuse.protocols import Selector
from recuse.random import SampleNoise
from recuse.results import AttackOutcome, Guarantee
from recuse.selectors import (
    SELECTORS,
    Always,
    AnsweringSelector,
    CertifiedIndicator,
    Coverage,
    EntropyResponse,
    InnerSearch,
    NarrowIndicator,
    Reach,
    RobustMargin,
    RobustnessIndicator,
    RobustSoftmaxResponse,
    SelectionNetwork,
    SoftmaxResponse,
    acceptance_split,
    calibrate,
    robust_selection,
    selection_bounds,
    worst_margin,
)
from recuse.selectors.robustness import answered
from recuse.selectors.scores import attackable
from recuse.threat import Threat

EPS = Threat("linf", "0.05")


def annotations(kind):
    return getattr(kind, "__dataclass_fields__", {})


def noise_for(x):
    return SampleNoise(0, tuple(str(i) for i in range(len(x))))


def points(n, seed=0):
    return torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def instances(exact, other=None):
    return {
        "always": Always(),
        "indicator": RobustnessIndicator(EPS, exact),
        "narrow-indicator": NarrowIndicator(EPS, EPS.eps / 2, exact),
        "certified": CertifiedIndicator(EPS, Ibp()),
        "robust-margin": RobustMargin(EPS, exact),
        "softmax": SoftmaxResponse(0.7),
        "robust-softmax": RobustSoftmaxResponse(EPS, exact, 0.7),
        "entropy": EntropyResponse(-0.5),
        "network": SelectionNetwork(other),
    }


def test_the_table_holds_exactly_the_public_selectors():
    strategies = {
        value
        for name, value in vars(room).items()
        if inspect.isclass(value)
        and not getattr(value, "_is_protocol", False)
        and {"__call__", "threshold", "guarantee"} <= {*dir(value), *annotations(value)}
    }
    assert set(SELECTORS.values()) == strategies


@pytest.mark.parametrize("name", list(SELECTORS))
def test_every_selector_keeps_the_contract(name, linear_models):
    selector = instances(linear_models.ExactLinear(), linear_models.random_linear(8, classes=2))[
        name
    ]
    assert isinstance(selector, SELECTORS[name])
    assert isinstance(selector, Selector)
    assert isinstance(selector.guarantee, Guarantee)
    model = linear_models.random_linear(3)
    if name == "certified":  # a bare layer has no graph of layers to bound
        model = nn.Sequential(model).eval()
    before = [p.clone() for p in model.parameters()]
    x = points(60)
    scores = selector(model, x, noise=noise_for(x))
    assert scores.shape == (60,)
    assert not scores.requires_grad
    halves = [
        selector(model, x[rows], noise=noise_for(x).take(range(60)[rows]))
        for rows in (slice(0, 7), slice(7, 60))
    ]
    torch.testing.assert_close(torch.cat(halves), scores)
    assert int((scores >= selector.threshold).sum()) > 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert attackable(selector)
    if name == "always":  # no input makes it abstain, so that there is nothing to climb
        return
    leaf = x.clone().requires_grad_()
    labels = model(x).argmax(1)
    value = selector.surrogate(model, leaf, labels, noise=noise_for(x))
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    assert bool(grad.isfinite().all())
    assert bool((grad != 0).any())


@pytest.mark.parametrize("name", [n for n in SELECTORS if n not in ("network", "certified")])
def test_answers_come_with_the_logits_of_the_classifier(name, linear_models):
    exact, other = linear_models.ExactLinear(), linear_models.random_linear(8, classes=2)
    selector, model, x = instances(exact, other)[name], linear_models.random_linear(1), points(20)
    assert isinstance(selector, AnsweringSelector)
    logits, scores = selector.answer(model, x, noise=noise_for(x))
    torch.testing.assert_close(logits, model(x))
    torch.testing.assert_close(scores, selector(model, x, noise=noise_for(x)))
    assert not logits.requires_grad


def test_entropy_and_softmax_of_known_distributions():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]))
    identity, noise = nn.Identity(), noise_for(logits)
    softmax = SoftmaxResponse(0.1)(identity, logits, noise=noise)
    assert softmax.tolist() == pytest.approx([0.5, 1 / 3])
    negative = EntropyResponse(-1.0)(identity, logits, noise=noise)
    assert negative.tolist() == pytest.approx([-1.5 * math.log(2), -math.log(3)], rel=1e-6)


class TestRobustnessIndicator:
    @given(st.integers(0, 10_000))
    @settings(max_examples=30, deadline=None)
    def test_a_selected_answer_is_the_answer_at_the_unattacked_input(self, linear_models, seed):
        model = linear_models.random_linear(seed)
        selector = RobustnessIndicator(EPS, linear_models.ExactLinear())
        x = points(200, seed)
        moved = EPS.random_start(x, noise_for(x))
        kept = selector(model, moved, noise=noise_for(x)) == 1
        assert torch.equal(model(moved).argmax(1)[kept], model(x).argmax(1)[kept])

    @given(st.integers(0, 10_000))
    @settings(max_examples=30, deadline=None)
    def test_the_doubled_radius_decides_whether_it_surely_selects(self, linear_models, seed):
        model, exact = linear_models.random_linear(seed), linear_models.ExactLinear()
        selector, x = RobustnessIndicator(EPS, exact), points(100, seed)
        sure = robust_selection(selector, model, x, noise=noise_for(x))
        seen = torch.ones_like(sure)
        for dx in torch.linspace(-1, 1, 5).tolist():
            for dy in torch.linspace(-1, 1, 5).tolist():
                moved = EPS.project(x + EPS.eps * torch.tensor([dx, dy]), x)
                seen &= selector(model, moved, noise=noise_for(x)) == 1
        assert bool((seen | ~sure).all())

    def test_robustness_at_the_single_radius_is_not_enough(self, linear_models):
        # The boundary is at 0.5; an input 1.5 eps away is robust at eps but can be moved to
        # half an eps from it, where the indicator abstains.
        model = linear_models.linear([[0.0, 0.0], [1.0, 0.0]], [0.0, -0.5])
        selector = RobustnessIndicator(EPS, linear_models.ExactLinear())
        x = torch.tensor([[0.5 + 1.5 * EPS.eps, 0.5]], dtype=torch.float64)
        assert selector(model, x, noise=noise_for(x)).tolist() == [1]
        assert selector(model, x - torch.tensor([EPS.eps, 0]), noise=noise_for(x)).tolist() == [0]
        assert robust_selection(selector, model, x, noise=noise_for(x)).tolist() == [False]

    def test_the_radii_follow_from_the_budget(self):
        assert [t.radius for t in Reach(Threat("linf", "1/255")).ascending] == ["1/255", "2/255"]
        wider = Reach(Threat("linf", "1/255"), 2 / 255)
        assert [t.radius for t in wider.ascending] == ["1/255", "2/255", "3/255"]

    @pytest.mark.parametrize(
        ("budget", "radius", "sentence"),
        [("2/255", 1 / 255, "smaller than the attacker's budget"), ("0.6", None, "add up to more")],
    )
    def test_radii_that_do_not_fit_are_refused(self, budget, radius, sentence):
        for build in (
            lambda t: RobustnessIndicator(t, Apgd(), radius),
            lambda t: RobustMargin(t, Apgd(), 0.1, radius),
            lambda t: RobustSoftmaxResponse(t, Apgd(), 0.6, radius),
        ):
            with pytest.raises(ConfigError, match=sentence):
                build(Threat("linf", budget))

    def test_margin_at_threshold_zero_is_the_indicator(self, linear_models):
        model, exact, x = linear_models.random_linear(5), linear_models.ExactLinear(), points(200)
        margin = RobustMargin(EPS, exact)(model, x, noise=noise_for(x))
        indicator = RobustnessIndicator(EPS, exact)(model, x, noise=noise_for(x))
        assert torch.equal(margin >= 0, indicator == 1)
        assert 0 < int(indicator.sum()) < 200


def test_a_margin_is_surely_selected_only_where_it_reaches_the_threshold(linear_models):
    # Two classes with logits 0 and 8 (x_0 - 0.5): the margin of softmax is tanh(4 |x_0 - 0.5|),
    # and within rho + eps the distance shrinks by two radii.
    model = linear_models.linear([[0.0, 0.0], [8.0, 0.0]], [0.0, -4.0])
    x, exact = 0.1 + 0.8 * points(200), linear_models.ExactLinear()
    for threshold, radius in ((0.0, None), (0.4, None), (0.6, 0.08)):
        selector = RobustMargin(EPS, exact, threshold, radius)
        worst = (x[:, 0] - 0.5).abs() - (radius or EPS.eps) - EPS.eps
        expected = torch.tanh(4 * worst) >= threshold
        sure = robust_selection(selector, model, x, noise=noise_for(x))
        assert torch.equal(sure, expected)
        assert 0 < int(sure.sum()) < 200
        moved = EPS.random_start(x, noise_for(x))
        scores = selector(model, moved, noise=noise_for(x))
        assert bool((scores >= threshold)[sure].all())


class Broken(nn.Module):
    """Linear, but NaN, or infinite in every class, off the given inputs or everywhere."""

    def __init__(self, inner, x=None, value=math.nan):
        super().__init__()
        self.inner, self.x, self.value = inner, x, value

    def forward(self, x):
        whole = torch.zeros(len(x), dtype=torch.bool)
        if self.x is not None:
            whole = (x.detach()[:, None] == self.x).all(2).any(1)
        return torch.where(whole[:, None], self.inner(x), self.inner(x) * 0 + self.value)


class TestNetworksThatDoNotAnswer:
    """The argmax of NaN is a class index, the same at every point."""

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    @pytest.mark.parametrize("everywhere", [True, False])
    @pytest.mark.parametrize("name", ["indicator", "robust-margin", "robust-softmax"])
    def test_they_are_not_robust(self, linear_models, name, value, everywhere):
        # Far from every boundary: without the NaN each of them is selected.
        model, x = linear_models.linear([[1.0, 0.0], [-9.0, 0.0]], [0.0, 0.0]), 0.4 + points(10) / 9
        selector = instances(Apgd(steps=5), model)[name]
        assert bool((selector(model, x, noise=noise_for(x)) >= selector.threshold).all())
        broken = Broken(model, None if everywhere else x, value)
        assert not bool((selector(broken, x, noise=noise_for(x)) >= selector.threshold).any())
        if name != "robust-softmax":
            assert not bool(robust_selection(selector, broken, x, noise=noise_for(x)).any())

    def test_an_image_of_nan_is_not_robust(self, linear_models):
        model, x = linear_models.linear([[1.0, 0.0], [-9.0, 0.0]], [0.0, 0.0]), 0.4 + points(3) / 9
        x[1, 0] = math.nan
        scores = RobustnessIndicator(EPS, Apgd(steps=5))(model, x, noise=noise_for(x))
        assert scores.tolist() == [1, 0, 1]

    def test_a_search_that_lost_its_way_found_something(self, linear_models):
        def lost(model, x, y, threat, **_):
            none = torch.zeros_like(y)
            return AttackOutcome(x * math.nan, none.bool(), none, none)

        model, x = linear_models.linear([[1.0, 0.0], [-9.0, 0.0]], [0.0, 0.0]), 0.4 + points(3) / 9
        assert not RobustnessIndicator(EPS, lost)(model, x, noise=noise_for(x)).any()

    def test_a_class_at_minus_infinity_is_no_reason_to_abstain(self):
        logits = torch.tensor([[1.0, -math.inf], [math.nan, 1.0], [math.inf, 1.0], [-math.inf] * 2])
        assert answered(logits).tolist() == [True, False, False, False]


def test_worst_margin_and_its_gradient_have_the_closed_form(linear_models):
    # min over the linf ball of w.x + b is w.x + b - eps |w|_1, with gradient w.
    model = linear_models.linear([[1.0, -2.0], [-0.5, 0.5]], [0.1, 0.2])
    x = (0.3 + 0.4 * points(6)).requires_grad_()
    labels = torch.zeros(6, dtype=torch.int64)
    for search in (InnerSearch(), InnerSearch(steps=4, restarts=3)):
        value = worst_margin(model, x, labels, EPS, noise=noise_for(x), search=search)
        w = torch.tensor([1.5, -2.5], dtype=torch.float64)
        torch.testing.assert_close(value, x @ w - 0.1 - EPS.eps * 4.0)
        (grad,) = torch.autograd.grad(value.sum(), x)
        torch.testing.assert_close(grad, w.expand(6, 2))


class TestSoftmaxResponse:
    def test_robust_form_has_the_closed_form_of_a_logistic_model(self, linear_models):
        model = linear_models.linear([[0.0, 0.0], [8.0, 4.0]], [0.0, -6.0])
        x = 0.1 + 0.8 * points(300)
        selector = RobustSoftmaxResponse(EPS, linear_models.ExactLinear(), 0.6)
        scores = selector(model, x, noise=noise_for(x))
        worst = (model(x)[:, 1].abs() - EPS.eps * 12.0).clamp_min(0).sigmoid()
        robust = worst > 0.5
        torch.testing.assert_close(scores[robust], worst[robust])
        assert bool((scores[~robust] <= 0.5).all())

    def test_above_one_half_it_selects_only_where_the_indicator_does(self, linear_models):
        exact, x = linear_models.ExactLinear(), points(400)
        for seed in range(5):
            model = linear_models.random_linear(seed)
            scores = RobustSoftmaxResponse(EPS, exact, 0.6)(model, x, noise=noise_for(x))
            robust = RobustnessIndicator(EPS, exact)(model, x, noise=noise_for(x)) == 1
            assert bool((robust | (scores < 0.6)).all())

    def test_confident_wrong_answers_are_selected(self, linear_models):
        """Softmax response has no symmetry: an attacker moves to the other, confident side."""
        steep = linear_models.linear([[0.0, 0.0], [500.0, 0.0]], [0.0, -250.0])
        x = torch.tensor([[0.52, 0.5]], dtype=torch.float64)
        moved = x - torch.tensor([EPS.eps, 0])
        scores = SoftmaxResponse(0.99)(steep, moved, noise=noise_for(x))
        assert scores.item() >= 0.99
        assert steep(moved).argmax(1) != steep(x).argmax(1)

    @pytest.mark.parametrize("tau", [1.5, -0.1, math.nan])
    def test_thresholds_that_select_nothing_are_refused(self, tau):
        for build in (SoftmaxResponse, partial(RobustSoftmaxResponse, EPS, Apgd())):
            with pytest.raises(ConfigError, match="not in"):
                build(tau)


@pytest.mark.parametrize(
    "build", [lambda: EntropyResponse(0.3), lambda: RobustMargin(EPS, Apgd(), 1.5)]
)
def test_other_thresholds_that_select_nothing_are_refused(build):
    with pytest.raises(ConfigError, match="select"):
        build()


def test_thresholds_that_calibrate_returns_are_taken(linear_models):
    # Logits far apart: in floating point every softmax is exactly 1, and every margin too.
    model, x = linear_models.linear([[900.0, 0.0], [0.0, 0.0]], [0.0, 0.0]), 0.4 + points(20) / 9
    exact = linear_models.ExactLinear()
    for build in (
        SoftmaxResponse,
        partial(RobustSoftmaxResponse, EPS, exact),
        partial(RobustMargin, EPS, exact),
    ):
        scores = build(0.5)(model, x, noise=noise_for(x))
        found = calibrate(scores, torch.zeros(20, dtype=torch.bool), Coverage(0.9))
        assert found.threshold == 1
        chosen = build(found.threshold)
        assert bool((chosen(model, x, noise=noise_for(x)) >= chosen.threshold).all())


def test_the_surrogate_at_threshold_one_is_met_where_it_selects():
    selector, identity = SoftmaxResponse(1.0), nn.Identity()
    logits = torch.tensor([[12.0, 0.0], [15.0, 0.0], [17.5, 0.0], [30.0, 0.0]])
    scores = selector(identity, logits, noise=noise_for(logits))
    labels = torch.zeros(4, dtype=torch.int64)
    met = selector.surrogate(identity, logits, labels, noise=noise_for(logits)) > 0
    assert met.tolist() == (scores >= 1).tolist() == [False, False, True, True]


def test_selection_network_is_a_binary_classifier_of_its_own(digits_head):
    right = torch.arange(len(digits_head)) % 3 > 0
    task = acceptance_split(digits_head, right)
    assert task.label_names == ("reject", "accept")
    assert torch.equal(task.labels == 1, right)
    x = points(3)
    three = SelectionNetwork(nn.Linear(2, 3).double())
    with pytest.raises(ConfigError, match="two outputs"):
        three(nn.Identity(), x, noise=noise_for(x))
    with pytest.raises(ConfigError, match="nothing to tell apart"):
        acceptance_split(digits_head, torch.ones(len(digits_head), dtype=torch.bool))


def test_selection_bounds_hold_everywhere_in_the_ball(linear_models):
    draw = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 2)).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=draw, dtype=torch.float64))
    x, selector = points(60), SelectionNetwork(net)
    noise = noise_for(x)
    bounds = selection_bounds(net, x, EPS)
    seen = [selector(net, EPS.random_start(x, noise.substream(i)), noise=noise) for i in range(300)]
    lowest, highest = torch.stack(seen).amin(0), torch.stack(seen).amax(0)
    assert bool((bounds.lower <= lowest).all())
    assert bool((bounds.upper >= highest).all())
    at_x = selection_bounds(net, x, Threat("linf", 0.0))
    torch.testing.assert_close(at_x.lower, selector(net, x, noise=noise))
    torch.testing.assert_close(at_x.upper, at_x.lower)
    # A linear net's bounds are attained at a corner of the ball.
    line = nn.Sequential(linear_models.linear([[1.0, 2.0], [-1.0, 3.0]], [0.0, 0.5])).eval()
    middle = 0.2 + 0.6 * x
    exact = middle @ torch.tensor([-2.0, 1.0], dtype=torch.float64) + 0.5
    tight = selection_bounds(line, middle, EPS)
    torch.testing.assert_close(tight.lower, exact - 3 * EPS.eps)
    torch.testing.assert_close(tight.upper, exact + 3 * EPS.eps)
