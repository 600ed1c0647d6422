"""The ball: projections are idempotent and inside, directions are steepest, text round-trips."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recuse.errors import ConfigError
from recuse.random import SampleNoise
from recuse.threat import Threat, expand_as, per_sample_l2

NORMS = st.sampled_from(["linf", "l2"])
EPS = st.floats(0.0, 1.0, allow_subnormal=False)
SEEDS = st.integers(0, 2**31)


def images(seed, n=4, shape=(3, 5, 4), dtype=torch.float32):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def noise(n, seed=0):
    return SampleNoise(seed, tuple(map(str, range(n))), "threat")


@settings(deadline=None)
@given(norm=NORMS, eps=EPS, seed=SEEDS, reach=st.floats(0.0, 30.0))
def test_projection_is_inside_and_idempotent(norm, eps, seed, reach):
    threat, x = Threat(norm, eps), images(seed)
    far = x + reach * (images(seed + 1) - 0.5)
    once = threat.project(far, x)
    assert threat.contains(once, x).all()
    torch.testing.assert_close(threat.project(once, x), once, rtol=0, atol=1e-6)


@settings(deadline=None)
@given(norm=NORMS, eps=EPS, seed=SEEDS, reach=st.floats(0.0, 5.0))
def test_projector_is_projection_in_place(norm, eps, seed, reach):
    threat, x = Threat(norm, eps), images(seed, dtype=torch.float64)
    far = x + reach * (images(seed + 1, dtype=torch.float64) - 0.5)
    expected = threat.project(far, x)
    torch.testing.assert_close(threat.projector(x)(far), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(far, expected, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(norm=NORMS, eps=EPS, seed=SEEDS)
def test_projection_leaves_inner_points_alone(norm, eps, seed):
    threat, x = Threat(norm, eps), images(seed, dtype=torch.float64)
    inner = threat.project(x + 0.3 * (images(seed + 1, dtype=torch.float64) - 0.5), x)
    torch.testing.assert_close(threat.project(inner, x), inner, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(seed=SEEDS, eps=st.floats(0.01, 0.3))
def test_linf_projection_is_the_nearest_point(seed, eps):
    threat, x = Threat("linf", eps), images(seed, dtype=torch.float64)
    far = x + (images(seed + 1, dtype=torch.float64) - 0.5)
    nearest = per_sample_l2(threat.project(far, x) - far)
    for other in range(3):
        inside = threat.project(images(seed + 2 + other, dtype=torch.float64), x)
        assert (per_sample_l2(inside - far) >= nearest - 1e-12).all()


@settings(deadline=None)
@given(norm=NORMS, seed=SEEDS)
def test_ascent_direction_is_the_steepest_unit_step(norm, seed):
    threat, grad = Threat(norm, 1.0), images(seed, dtype=torch.float64) - 0.5
    step = threat.ascent_direction(grad)
    gain = (step * grad).flatten(1).sum(1)
    dual = {"linf": 1, "l2": 2}[norm]
    torch.testing.assert_close(gain, torch.linalg.vector_norm(grad.flatten(1), ord=dual, dim=1))
    zero = torch.zeros_like(grad)
    torch.testing.assert_close(threat.distance(step, zero), torch.ones(4, dtype=torch.float64))
    assert torch.equal(threat.ascent_direction(zero), zero)


@settings(deadline=None, max_examples=25)
@given(norm=NORMS, eps=EPS, seed=SEEDS)
def test_random_start_is_inside_and_keyed_by_sample(norm, eps, seed):
    threat, x = Threat(norm, eps), images(seed)
    start = threat.random_start(x, noise(4, seed))
    assert threat.contains(start, x).all()
    alone = threat.random_start(x[2:3], noise(4, seed).take([2]))
    assert torch.equal(alone, start[2:3])
    if eps == 0:
        assert torch.equal(start, x)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_start_is_uniform_in_the_ball(norm):
    # far from the walls: radius / eps of a uniform point in dimension d has cdf r^d
    x, threat, d = torch.full((4000, 2), 0.5), Threat(norm, 0.1), 2
    share = (threat.distance(threat.random_start(x, noise(4000)), x) / 0.1) ** d
    for quantile in (0.1, 0.5, 0.9):
        assert float((share < quantile).double().mean()) == pytest.approx(quantile, abs=0.025)


def test_contains_refuses_what_is_outside():
    x = torch.full((1, 1, 2, 2), 0.99)
    assert Threat("linf", 0.1).contains(x - 0.1, x).all()
    assert not Threat("linf", 0.1).contains(x - 0.102, x).any()
    assert not Threat("linf", 0.1).contains(x + 0.02, x).any()  # beyond white
    assert Threat("l2", 0.2).contains(x - 0.1, x).all()
    assert not Threat("l2", 0.19).contains(x - 0.1, x).any()
    assert not Threat("linf", 0.1).contains(torch.full_like(x, torch.nan), x).any()


@pytest.mark.parametrize("text", ["linf:2/255", "l2:0.25", "linf:0", "l2:1.5", "linf:8/255"])
def test_text_round_trips(text):
    threat = Threat.parse(text)
    assert str(threat) == text
    assert Threat.parse(str(threat)) == threat
    assert hash(threat) == hash(Threat.parse(text))


def test_radii_relate():
    threat = Threat("linf", "1/255")
    assert threat.doubled() == Threat("linf", "2/255")
    assert Threat("linf", 0.6).doubled().eps == 1.0
    assert Threat("l2", 0.6).doubled().eps == 1.2
    assert threat.with_eps("3/255").radius == "3/255"
    assert expand_as(torch.ones(4), images(0)).shape == (4, 1, 1, 1)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("2/255", "has no norm"),
        ("l1:0.1", "unknown"),
        ("linf:-0.1", "not negative"),
        ("linf:2", "larger than 1"),
        ("linf:abc", "not a number"),
        ("l2:nan", "not a number"),
        ("l2:inf", "not a number|finite"),
        ("linf:1/0", "not a number"),
    ],
)
def test_impossible_threats_say_what_to_write(text, word):
    with pytest.raises(ConfigError, match=word) as caught:
        Threat.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("side", [32, 224])
@pytest.mark.parametrize("eps", [0.5, 2.0])
def test_what_was_projected_is_inside_on_large_images_too(side, eps, layout):
    threat, spread = Threat("l2", eps), images(0, 2, (3, side, side)) - 0.5
    even = eps / spread[0].numel() ** 0.5  # so large in every pixel is a step as long as the radius
    direction = (images(1, 2, (3, side, side)) - 0.5).sign()
    # Few pixels are cut off at 0 or 1, and rounding goes one way where the pixels are all alike.
    for x in (0.5 + 0.2 * spread, torch.full_like(spread, 0.7)):
        x = x.to(memory_format=layout)
        for length in (1.1, 2.0, 10.0):
            far = x + length * even * direction
            for point in (threat.project(far, x), threat.projector(x)(far.clone())):
                assert threat.contains(point, x).all()
                exact = (point.double() - x.double()).flatten(1).norm(dim=1)
                torch.testing.assert_close(exact, torch.full_like(exact, eps), rtol=5e-5, atol=0)
        assert not threat.contains(x + 1.001 * even * direction, x).any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_lengths_are_right_on_large_images(layout):
    v = torch.full((2, 3, 512, 512), 1e-3).to(memory_format=layout)
    expected = 1e-3 * (3 * 512 * 512) ** 0.5
    torch.testing.assert_close(per_sample_l2(v), torch.full((2,), expected), rtol=1e-6, atol=0)


@settings(deadline=None)
@given(norm=NORMS, seed=SEEDS)
def test_dual_norm_is_what_a_step_of_length_one_gains(norm, seed):
    threat, grad = Threat(norm, 0.1), images(seed, dtype=torch.float64) - 0.5
    step = threat.ascent_direction(grad)
    origin = torch.zeros_like(step)
    torch.testing.assert_close(threat.distance(step, origin), torch.ones(4, dtype=torch.float64))
    gain = (grad * step).flatten(1).sum(dim=1)
    torch.testing.assert_close(threat.dual_norm(grad), gain, rtol=1e-12, atol=0)
