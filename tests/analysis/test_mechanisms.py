"""Every bound against brute force: networks on a plane, every point of every ball tried.

The world is a grid of points; a ball is a square of them, cut off at the border. Radii add up and
distances are symmetric, so that each theorem holds here exactly or not at all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.ndimage import minimum_filter

from recuse.analysis.accounting import CoreVerdicts, StageVerdicts, sound_account
from recuse.analysis.mechanisms import (
    confidence_stage,
    entropy_stage,
    indicator_stage,
    least_entropy,
    margin_stage,
    mixture_core,
    network_stage,
    one_hot_mixture_core,
    robust_softmax_stage,
    softmax_stage,
)
from recuse.evaluation.margins import largest_entropy

SIDE, CLASSES, WIDTH = 24, 3, 12
SEEDS = range(12)
PLANE = np.stack(np.meshgrid(*2 * [np.linspace(0, 1, SIDE)], indexing="ij"), axis=-1)


def worst(values, radius: int):
    """The smallest value in the ball around every point."""
    return minimum_filter(values, size=2 * radius + 1, mode="nearest")


def always(holds, radius: int):
    """Whether it holds at every point of the ball."""
    return worst(holds.astype(np.int8), radius) == 1


def at(stack, labels):
    """Of one map per class, the entry of each point's class."""
    return np.take_along_axis(np.stack(stack), labels[None], axis=0)[0]


def right_around(answers, y, radius: int):
    """Whether every point of the ball around x is answered by the class of x."""
    return at([always(answers == c, radius) for c in range(CLASSES)], y)


def probabilities(rng, sharpness: float):
    """A random network of one hidden layer on every point of the plane."""
    hidden = np.tanh(PLANE @ rng.normal(0, 6, (2, WIDTH)) + rng.normal(0, 3, WIDTH))
    logits = sharpness * hidden @ rng.normal(0, 1, (WIDTH, CLASSES))
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


@dataclass
class Network:
    """A network on the plane and what can be measured of it, exactly."""

    p: np.ndarray
    y: np.ndarray

    @property
    def answers(self):
        return self.p.argmax(-1)

    @property
    def accurate(self):
        return self.answers == self.y

    def margins(self):
        return [self.p[..., c] - np.delete(self.p, c, -1).max(-1) for c in range(CLASSES)]

    def robust(self, radius):
        return right_around(self.answers, self.answers, radius)

    def least(self, maps, labels, radius):
        return at([worst(m, radius) for m in maps], labels)

    def margin(self, radius, labels=None):
        return self.least(self.margins(), self.answers if labels is None else labels, radius)

    def confidence(self, radius, labels=None):
        maps = np.moveaxis(self.p, -1, 0)
        return self.least(maps, self.answers if labels is None else labels, radius)

    def worst_confidence(self, radius):
        others = [-np.delete(self.p, c, -1).max(-1) for c in range(CLASSES)]
        return -self.least(others, self.y, radius)


@dataclass
class World:
    """Two networks, the truth, a score of a third, and the radii of attacker and selector."""

    first: Network
    second: Network
    score: np.ndarray
    eps: int
    rho: int
    tau: float

    @property
    def narrow(self) -> bool:
        return self.rho < self.eps


def world(seed: int, eps: int = 2, rho: int = 2) -> World:
    rng = np.random.default_rng(seed)
    first, second = (probabilities(rng, k) for k in rng.uniform(0.5, 3, 2))
    noise = rng.integers(0, CLASSES, (SIDE, SIDE))
    y = np.where(rng.random((SIDE, SIDE)) < 0.1, noise, (first + second).argmax(-1))
    score = probabilities(rng, 1.0)[..., 0] - 1 / 3
    return World(Network(first, y), Network(second, y), score, eps, rho, rng.uniform(0.51, 0.8))


def verdicts(w: World):
    return w.first.accurate, w.first.robust(w.eps)


def indicator(w: World):
    chosen = w.first.robust(w.rho)
    sure = w.first.robust(w.rho + w.eps)
    return chosen, indicator_stage(*verdicts(w), chosen, sure, narrow=w.narrow)


def margin(w: World):
    near, far, tau = w.first.margin(w.rho), w.first.margin(w.rho + w.eps), w.tau - 0.5
    return near >= tau, margin_stage(*verdicts(w), near, far, threshold=tau, narrow=w.narrow)


def robust_softmax(w: World):
    near, far = w.first.confidence(w.rho), w.first.confidence(w.rho + w.eps)
    stage = robust_softmax_stage(*verdicts(w), near, far, threshold=w.tau, narrow=w.narrow)
    return near >= w.tau, stage


def softmax(w: World):
    top, y = w.first.p.max(-1), w.first.y
    least, most = w.first.confidence(w.eps, y), w.first.worst_confidence(w.eps)
    return top >= w.tau, softmax_stage(*verdicts(w), top, least, most, threshold=w.tau)


def entropy(w: World):
    p, y = w.first.p, w.first.y
    of, tau = -(p * np.log(p)).sum(-1), 1.1 * (1 - w.tau)
    least, most = w.first.confidence(w.eps, y), w.first.worst_confidence(w.eps)
    largest = largest_entropy(torch.from_numpy(least), CLASSES).numpy()
    return of <= tau, entropy_stage(*verdicts(w), of, largest, most, threshold=-tau)


def network(w: World):
    lower, upper = worst(w.score, w.eps), -worst(-w.score, w.eps)
    return w.score >= 0, network_stage(*verdicts(w), w.score, lower, upper, threshold=0.0)


def decided(w: World):
    chosen = w.score >= 0
    return chosen, confidence_stage(*verdicts(w), chosen, always(chosen, w.eps))


Mechanism = Callable[[World], tuple[np.ndarray, StageVerdicts]]
EVERY: list[Mechanism] = [indicator, margin, robust_softmax, softmax, entropy, network, decided]
LOOKING_AROUND: list[Mechanism] = [indicator, margin, robust_softmax]
RADII = [(1, 1), (2, 2), (1, 2), (2, 1), (3, 1), (2, 0)]  # eps, rho


def core_of(w: World) -> CoreVerdicts:
    return CoreVerdicts(w.second.accurate, w.second.robust(w.eps))


def never_wrong(stage: StageVerdicts):
    return stage.right_where_selecting | (
        False if stage.may_select is None else ~stage.may_select
    )  # fmt: skip


@pytest.mark.parametrize("mechanism", EVERY)
@pytest.mark.parametrize(("eps", "rho"), RADII)
def test_what_a_stage_promises_is_so_at_every_point_of_the_ball(mechanism, eps, rho) -> None:
    promised = np.zeros(2, dtype=int)
    for seed in SEEDS:
        w = world(seed, eps, rho)
        chosen, stage = mechanism(w)
        answered, y = np.where(chosen, w.first.answers, -1), w.first.y
        sure, safe = never_wrong(stage) & stage.surely_selects, never_wrong(stage)
        right_or_silent = np.stack([always((answered == c) | ~chosen, eps) for c in range(CLASSES)])
        assert not (sure & ~right_around(answered, y, eps)).any()
        assert not (safe & ~at(list(right_or_silent), y)).any()
        np.testing.assert_array_equal(stage.selects, chosen)
        promised += sure.sum(), safe.sum()
    assert (promised > 50).all(), "the bounds promise next to nothing here"


@pytest.mark.parametrize("mechanism", EVERY)
@pytest.mark.parametrize(("eps", "rho"), RADII)
def test_the_sound_count_of_a_composition_bounds_the_truth(mechanism, eps, rho) -> None:
    counted = beyond_the_core = 0
    for seed in SEEDS:
        w = world(seed, eps, rho)
        chosen, stage = mechanism(w)
        deployed, core = np.where(chosen, w.first.answers, w.second.answers), core_of(w)
        account = sound_account([stage], core)
        np.testing.assert_array_equal(account.natural, deployed == w.first.y)
        assert not (account.robust & ~right_around(deployed, w.first.y, eps)).any()
        counted += account.robust.sum()
        beyond_the_core += (account.robust & ~(core.accurate & core.robust)).sum()
    assert counted > 50
    assert beyond_the_core > 10


@pytest.mark.parametrize("seed", range(24))
def test_stages_of_different_mechanisms_in_a_row(seed) -> None:
    rng = np.random.default_rng(seed)
    worlds = [world(3 * seed + i, 2, int(rho)) for i, rho in enumerate(rng.integers(0, 3, 3))]
    y = worlds[0].first.y
    deployed, core = worlds[0].second.answers, core_of(worlds[0])
    stages = []
    for w in worlds:
        w.first.y = y
        chosen, stage = EVERY[rng.integers(len(EVERY))](w)
        deployed, stages = np.where(chosen, w.first.answers, deployed), [stage, *stages]
    account = sound_account(stages, core)
    np.testing.assert_array_equal(account.natural, deployed == y)
    assert not (account.robust & ~right_around(deployed, y, 2)).any()


@pytest.mark.parametrize("mechanism", LOOKING_AROUND)
def test_a_narrow_selector_counted_as_a_wide_one_promises_too_much(mechanism) -> None:
    broken = 0
    for seed in SEEDS:
        w = world(seed, eps=3, rho=0)
        chosen, stage = mechanism(w)
        silent = ~chosen
        fine = [always((w.first.answers == c) | silent, 3) for c in range(CLASSES)]
        broken += (stage.accurate & ~at(fine, w.first.y)).sum()
    assert broken > 0


def test_the_confidence_columns_of_published_logs_are_no_bound_for_softmax_response() -> None:
    """They hold the confidence at the point where another class than F(x) is most likely."""
    broken = 0
    for seed in SEEDS:
        w = world(seed)
        top, others = w.first.p.max(-1), [-np.delete(w.first.p, c, -1).max(-1) for c in range(3)]
        found = np.maximum(-w.first.least(others, w.first.answers, 4), w.first.confidence(4))
        stage = confidence_stage(*verdicts(w), top >= w.tau, found >= w.tau)
        deployed = np.where(top >= w.tau, w.first.answers, w.second.answers)
        counted = sound_account([stage], core_of(w)).robust
        broken += (counted & ~right_around(deployed, w.first.y, w.eps)).sum()
    assert broken > 0


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.55, 0.9, 1.0])
@pytest.mark.parametrize("eps", [1, 2])
def test_what_a_mixture_promises_is_so_at_every_point_of_the_ball(share, eps) -> None:
    counted = np.zeros(2, dtype=int)
    for seed in SEEDS:
        w = world(seed, eps)
        y, one_hot = w.first.y, np.eye(CLASSES)[w.second.answers]
        mixed, leaning = (
            (share * w.first.p + (1 - share) * q).argmax(-1) for q in (w.second.p, one_hot)
        )
        first, second = (n.margin(eps, y) for n in (w.first, w.second))
        soft = mixture_core(mixed == y, first, second, share=share)
        hard = one_hot_mixture_core(leaning == y, first, core_of(w), share=share)
        assert not (soft.robust & ~right_around(mixed, y, eps)).any()
        assert not (hard.robust & ~right_around(leaning, y, eps)).any()
        counted += soft.robust.sum(), hard.robust.sum()
    assert (counted > 100).all()


def test_the_entropy_of_a_distribution_is_within_what_one_of_its_entries_leaves() -> None:
    p = np.random.default_rng(0).dirichlet([0.3] * 5, size=4000)
    of, first, top = -(p * np.log(p.clip(1e-300))).sum(1), p[:, 0], p.max(1)
    most = largest_entropy(torch.from_numpy(first), 5).numpy()
    assert (of <= most + 1e-12).all()
    assert (least_entropy(top) <= of + 1e-9).all()
    even = np.array([[0.7, *[0.1] * 3], [0.25] * 4])
    reached = -(even * np.log(even)).sum(1)
    assert largest_entropy(torch.tensor([0.7, 0.1]), 4).tolist() == pytest.approx(reached)
    half = -2 * 0.4 * np.log(0.4) - 0.2 * np.log(0.2)
    assert least_entropy(np.array([1.0, 0.5, 0.4])) == pytest.approx([0, np.log(2), half])


@pytest.mark.parametrize("share", [0.55, 0.8, 0.95])
def test_a_one_hot_mixture_asks_how_far_a_class_is_ahead_of_the_cores(share) -> None:
    """The decision of MixedNUTS as a selector in front of the core."""
    for seed in SEEDS:
        w = world(seed)
        p, core = w.first.p, w.second.answers
        mixed = (share * p + (1 - share) * np.eye(CLASSES)[core]).argmax(-1)
        ahead = p.max(-1) - np.take_along_axis(p, core[..., None], -1)[..., 0]
        selected = ahead > (1 - share) / share
        np.testing.assert_array_equal(mixed, np.where(selected, w.first.answers, core))


def test_a_tie_of_a_one_hot_mixture_is_nobodys() -> None:
    """At one half, a class that is certain ties with the other network's answer."""
    yes = np.array([True])
    tie = one_hot_mixture_core(yes, np.array([-1.0]), CoreVerdicts(yes, yes), share=0.5)
    won = one_hot_mixture_core(yes, np.array([-0.9]), CoreVerdicts(yes, yes), share=0.5)
    assert (tie.robust.item(), won.robust.item()) == (False, True)
    against = CoreVerdicts(~yes, yes)
    tie, won = (
        one_hot_mixture_core(yes, np.array([1.0]), against, share=s).robust for s in (0.5, 0.6)
    )
    assert (tie.item(), won.item()) == (False, True)


def test_what_was_not_judged_promises_nothing() -> None:
    yes, unknown, high = np.array([True]), np.array([np.nan]), np.array([0.9])
    assert not mixture_core(yes, unknown, high, share=0.5).robust.any()
    assert not one_hot_mixture_core(yes, unknown, CoreVerdicts(yes, yes), share=0.9).robust.any()
    columns = {"surely": (unknown, high), "never": (high, unknown)}
    for least, most in columns.values():
        stage = softmax_stage(yes, yes, high, least, most, threshold=0.6)
        assert not sound_account([stage], CoreVerdicts(yes, yes)).robust.any()
    for least, most in columns.values():
        stage = entropy_stage(yes, ~yes, high, least, most, threshold=-1.0)
        assert not sound_account([stage], CoreVerdicts(yes, yes)).robust.any()
    stage = network_stage(yes, ~yes, high, unknown, unknown, threshold=0.6)
    assert not sound_account([stage], CoreVerdicts(yes, yes)).robust.any()


@pytest.mark.parametrize("tau", [0.5, 0.3])
def test_thresholds_that_promise_nothing_are_refused(tau) -> None:
    yes, high = np.array([True]), np.array([0.9])
    with pytest.raises(ValueError, match=f"softmax threshold {tau} must be above 1/2"):
        softmax_stage(yes, yes, high, high, high, threshold=tau)
    with pytest.raises(ValueError, match=f"softmax threshold {tau} must be above 1/2"):
        robust_softmax_stage(yes, yes, high, high, threshold=tau)
    with pytest.raises(ValueError, match="at 0 use indicator_stage"):
        margin_stage(yes, yes, high, high, threshold=0.0)
    with pytest.raises(ValueError, match=r"share 1\.5 of a mixture"):
        mixture_core(yes, high, high, share=1.5)
