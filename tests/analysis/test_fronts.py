"""Fronts: nobody on it is beaten, everybody off it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recuse.analysis.fronts import area_under_front, best_at_least, pareto

points = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 8)).map(lambda p: (p[0] / 8, p[1] / 8)),
    min_size=1,
    max_size=25,
)


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] >= other[0] and one[1] >= other[1] and one != other


@given(points)
def test_the_front_holds_exactly_the_unbeaten(cloud) -> None:
    front = pareto([p[0] for p in cloud], [p[1] for p in cloud])
    unbeaten = {p for p in cloud if not any(beats(q, p) for q in cloud)}
    assert {cloud[i] for i in front} == unbeaten
    assert len(front) == len(unbeaten)
    xs = [cloud[i][0] for i in front]
    assert xs == sorted(xs)


@given(points)
def test_the_area_is_the_share_of_dominated_points(cloud) -> None:
    area = area_under_front([p[0] for p in cloud], [p[1] for p in cloud])
    cells = [((i + 0.5) / 8, (j + 0.5) / 8) for i in range(8) for j in range(8)]
    inside = sum(any(x <= p[0] and y <= p[1] for p in cloud) for x, y in cells)
    assert area == pytest.approx(inside / 64)


def test_undefined_points_are_never_on_the_front() -> None:
    assert pareto([float("nan"), 0.2], [1.0, float("nan")]) == []
    assert area_under_front([float("nan")], [1.0]) == 0


@given(points, st.integers(0, 8))
def test_the_best_at_a_bound_keeps_the_bound(cloud, eighths: int) -> None:
    bound = eighths / 8
    chosen = best_at_least([p[0] for p in cloud], [p[1] for p in cloud], bound)
    fit = [p for p in cloud if p[1] >= bound]
    if chosen is None:
        assert not fit
    else:
        assert cloud[chosen] in fit
        assert cloud[chosen][0] == max(p[0] for p in fit)


def test_a_front_of_arrays() -> None:
    assert pareto(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == [0]
