"""The active set keeps the first adversarial point of each row, whatever the compaction."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recuse.attacks.active import (
    ActiveSet,
    Compaction,
    at_powers_of_two,
    every_step,
    exact_size,
    padded_size,
)

POLICIES = [
    Compaction(every_step, exact_size),
    Compaction(every_step, padded_size),
    Compaction(at_powers_of_two, exact_size),
    Compaction(at_powers_of_two, padded_size),
]


@given(st.integers(1, 5000))
def test_padded_size_wastes_less_than_half(rows):
    size = padded_size(rows)
    assert rows <= size < max(2 * rows, 2)
    assert padded_size(size) == size


@pytest.mark.parametrize("policy", POLICIES)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), steps=st.integers(1, 9))
def test_first_hit_of_every_row_wins(policy, seed, n, steps):
    g = torch.Generator().manual_seed(seed)
    hits = torch.rand(steps, n, generator=g) < 0.25
    clean = torch.rand(n, generator=g) < 0.2
    x = -torch.ones(n, 1)
    active = ActiveSet(x, clean, policy)
    work = torch.zeros(n, dtype=torch.int64)
    for step in range(steps):
        if len(active.rows) == 0:
            break
        points = torch.full((len(active.rows), 1), float(step))
        work[active.rows] += 1
        active.spend(forwards=1)
        active.settle(points, hits[step, active.rows], step, last=step == steps - 1)
    expected = clean | hits.any(0)
    assert torch.equal(active.success, expected)
    first = hits.double().argmax(0).to(x.dtype)
    assert torch.equal(active.x_adv[:, 0], torch.where(hits.any(0) & ~clean, first, -1.0))
    assert torch.equal(active.forwards, work)
    if policy == POLICIES[0]:
        ended = torch.where(hits.any(0), hits.double().argmax(0) + 1, steps)
        assert torch.equal(active.forwards, torch.where(clean, 0, ended.long()))


def test_best_points_are_kept_for_unbroken_rows_only():
    active = ActiveSet(torch.zeros(3, 2), torch.tensor([True, False, False]), POLICIES[0])
    active.settle(torch.ones(2, 2), torch.tensor([True, False]), 0)
    active.keep_best(torch.full((1, 2), 7.0))
    assert active.x_adv.tolist() == [[0, 0], [1, 1], [7, 7]]
    active.survivors()
    assert active.rows.tolist() == [2]
