"""Packed votes: the same draws however they are batched, and what is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from recuse.certify.votes import DrawSource, Piece, Voters, packed
from recuse.errors import CertificationError
from recuse.random import SampleNoise


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 100), max_size=12),
    st.sampled_from([8, 16, 24, 64, 1024]),
)
def test_packing_keeps_every_draw_once_in_whole_blocks(counts, batch_size):
    wanted = [Piece(row, 8 * row, count) for row, count in enumerate(counts)]
    batches = list(packed(iter(wanted), batch_size))
    assert all(0 < sum(p.count for p in batch) <= batch_size for batch in batches)
    assert all(piece.start % 8 == 0 for batch in batches for piece in batch)
    draws = [(p.row, p.start + j) for batch in batches for p in batch for j in range(p.count)]
    assert draws == [(p.row, p.start + j) for p in wanted for j in range(p.count)]


def test_a_draw_is_keyed_by_seed_stream_input_and_number():
    source = DrawSource.of(SampleNoise(3, ("a", "b"), "s"))
    whole = torch.empty(61, 3, 5)
    source.fill(whole, [Piece(1, 0, 61)])
    parts = torch.empty(40, 3, 5)
    source.fill(parts, [Piece(1, 16, 13), Piece(0, 8, 8), Piece(1, 32, 19)])
    assert torch.equal(parts[:13], whole[16:29])
    assert torch.equal(parts[21:], whole[32:51])
    for other in (SampleNoise(3, ("a",), "s"), SampleNoise(4, ("b",), "s"), SampleNoise(3, ("b",))):
        different = torch.empty(61, 3, 5)
        DrawSource.of(other).fill(different, [Piece(0, 0, 61)])
        assert (different != whole).float().mean() > 0.99


def test_draws_are_standard_normal_and_blocks_are_independent():
    out = torch.empty(40_000, 16)
    DrawSource.of(SampleNoise(0, ("a",))).fill(out, [Piece(0, 0, len(out))])
    assert stats.kstest(out.flatten()[:200_000].numpy(), "norm").pvalue > 1e-4
    direction = out @ torch.full((16,), 0.25)
    assert abs(float(direction.mean())) * math.sqrt(len(out)) < 4
    block = direction.view(-1, 8).mean(dim=1) * math.sqrt(8)
    for lag in (1, 2, 3, 397):
        correlation = float((block[:-lag] * block[lag:]).mean()) * math.sqrt(len(block))
        assert abs(correlation) < 4


def test_votes_of_many_inputs_have_binomial_variance(half_space):
    distances = [0.0 + i * 1e-7 for i in range(400)]
    model, x, noise = half_space(distances)
    votes = Voters(model, x, 0.25, noise, 1024).count_all(400, DrawSource.of(noise))
    z = (votes[:, 0] - 200) / 10
    assert abs(z.mean()) * 20 < 4
    assert stats.chi2.ppf(1e-4, 400) < (z**2).sum() < stats.chi2.ppf(1 - 1e-4, 400)


def test_votes_match_the_known_probability_and_any_batching(half_space):
    model, x, noise = half_space([-0.1, 0.05, 0.2], classes=4)
    votes = Voters(model, x, 0.12, noise, 1024).count_all(4000, DrawSource.of(noise))
    assert (votes.sum(axis=1) == 4000).all()
    expected = stats.norm.cdf(np.array([-0.1, 0.05, 0.2]) / 0.12)
    np.testing.assert_allclose(votes[:, 0] / 4000, expected, atol=4 * 0.5 / math.sqrt(4000))
    small = Voters(model, x, 0.12, noise, 56).count_all(4000, DrawSource.of(noise))
    np.testing.assert_array_equal(small, votes)


def test_batches_are_filled_by_many_inputs():
    sizes = []

    class Counting(nn.Module):
        def forward(self, x):
            sizes.append(len(x))
            return x.flatten(1)[:, :2]

    x = torch.rand(30, 1, 2, 2)
    noise = SampleNoise(0, tuple(map(str, range(30))))
    Voters(Counting().eval(), x, 0.1, noise, 64).count_all(40, DrawSource.of(noise))
    assert sizes == [64] * (30 * 40 // 64) + [30 * 40 % 64]


def test_noise_is_not_clipped():
    seen = []

    class Watching(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.flatten(1)[:, :2]

    noise = SampleNoise(0, ("a",))
    Voters(Watching().eval(), torch.zeros(1, 1, 4, 4), 0.5, noise).count_all(
        64, DrawSource.of(noise)
    )
    assert seen[0].min() < -0.5
    assert seen[0].std() == pytest.approx(0.5, abs=0.05)


class Broken(nn.Module):
    """NaN for inputs whose first pixel is below a half."""

    def forward(self, x):
        first = x.flatten(1)[:, :1]
        return torch.cat([first, torch.where(first < 0.5, torch.nan, 0.0)], dim=1)


def test_nan_names_the_input_and_never_becomes_a_vote():
    x = torch.tensor([[[[0.9]]], [[[0.1]]]])
    voters = Voters(Broken().eval(), x, 0.01, SampleNoise(0, ("good", "bad")), 64)
    with pytest.raises(CertificationError, match="'bad'"):
        voters.clean()
    with pytest.raises(CertificationError, match="'bad' under noise"):
        voters.count_all(8, DrawSource.of(voters.noise))
    good = Voters(Broken().eval(), x[:1], 0.01, SampleNoise(0, ("good",)), 64)
    assert good.count_all(8, DrawSource.of(good.noise)).tolist() == [[8, 0]]


@pytest.mark.parametrize(
    ("model", "batch_size", "words"),
    [
        (nn.Sequential(nn.Flatten(), nn.Dropout()), 64, "training mode"),
        (nn.Flatten().eval(), 12, "multiple of 8"),
        (nn.Flatten().eval(), 0, "multiple of 8"),
    ],
)
def test_what_cannot_vote_is_refused(model, batch_size, words):
    with pytest.raises(CertificationError, match=words):
        Voters(model, torch.rand(1, 1, 2, 2), 0.1, SampleNoise(0, ("a",)), batch_size)


def test_one_layer_in_training_mode_is_enough_to_refuse():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)).eval()
    model[1].train()
    with pytest.raises(CertificationError, match="training mode"):
        Voters(model, torch.rand(1, 1, 2, 2), 0.1, SampleNoise(0, ("a",)))


def test_a_model_that_is_no_classifier_is_refused():
    noise = SampleNoise(0, ("a",))
    voters = Voters(nn.Identity().eval(), torch.rand(1, 1, 2, 2), 0.1, noise)
    with pytest.raises(CertificationError, match="one row of logits"):
        voters.clean()
