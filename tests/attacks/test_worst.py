"""Worst probabilities in a ball: against brute force, for any temperature, and in records."""

import numpy as np
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import nn

from recuse.analysis.verdicts import verdicts
from recuse.attacks import Apgd, Margins
from recuse.data.split import Split
from recuse.errors import ConfigError, RecordError
from recuse.evaluation import Evaluation, evaluate
from recuse.models import Mlp, build_seeded
from recuse.random import SampleNoise
from recuse.threat import Threat

RADII = (0.05, 0.1)


def network(seed=0, scale=1.0):
    inner = build_seeded(Mlp(shape=(2,), classes=3, width=24), seed).double().eval()
    for parameter in inner.parameters():
        parameter.data *= 2.0

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return scale * self.inner(x)

    return Scaled().eval()


def points(n=40, seed=1):
    x = torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x, torch.arange(n) % 3


def search(net, x, y, radii=RADII, **settings):
    noise = SampleNoise(0, tuple(map(str, range(len(x)))))
    return Margins(**settings)(net, x, y, [Threat("linf", r) for r in radii], noise=noise)


def brute(net, x, y, eps, side=41):
    """The three worst cases over a grid of each point's square."""
    steps = torch.linspace(-eps, eps, side, dtype=torch.float64)
    grid = torch.cartesian_prod(steps, steps)
    found = []
    for point, label in zip(x, y.tolist(), strict=True):
        p = net((point + grid).clamp(0, 1)).softmax(1).detach()
        other = p[:, [c for c in range(3) if c != label]].amax(1)
        found.append(((p[:, label] - other).min(), other.max(), p[:, label].min()))
    return [torch.stack(column) for column in zip(*found, strict=True)]


@pytest.mark.parametrize("seed", range(3))
def test_the_search_finds_what_a_grid_finds(seed):
    x, y = points(seed=seed)
    net = network(seed)
    found, passes = search(net, x, y)
    for worst, eps in zip(found, RADII, strict=True):
        margin, confidence, least = brute(net, x, y, eps)
        # A little worse than the grid is what a search between its points may find.
        assert (worst.margin <= margin + 5e-3).all()
        assert (worst.confidence >= confidence - 5e-3).all()
        assert (worst.least <= least + 5e-3).all()
        assert (worst.margin >= margin - 5e-2).all()
    inner, outer = found
    assert (outer.margin <= inner.margin).all()
    assert (outer.least <= inner.least).all()
    assert (outer.confidence >= inner.confidence).all()
    assert int(passes.min()) >= 2 * 3 * 41


def test_a_sure_network_is_searched_too():
    """At 200 times the logits every probability rounds to 0 or 1; the answers are the same."""
    x, y = points()
    found, _ = search(network(), x, y)
    sure, _ = search(network(scale=200.0), x, y)
    for usual, large in zip(found, sure, strict=True):
        lost = usual.margin < -1e-3
        assert 5 < int(lost.sum()) < 40
        assert not (large.margin[lost] >= 0).any()  # NaN, which promises nothing, is allowed
        held = usual.margin > 1e-3
        assert (large.margin[held] > 0).all()


def test_a_network_without_a_slope_promises_nothing():
    class Steps(nn.Module):
        def forward(self, x):
            left = (x[:, :1] > 0.5).to(x) + 0 * x[:, :1]
            return torch.cat([left, 1 - left], 1)

    x, _ = points()
    (worst, _), _ = search(Steps(), x, torch.zeros(len(x), dtype=torch.int64))
    assert bool(worst.margin.isnan().all())
    assert bool(worst.least.isnan().all())
    assert bool(worst.confidence.isnan().all())


def judged(tmp_path, **settings):
    x, y = points(12)
    split = Split("plane/test", x.float(), y, tuple(map(str, range(12))), ("a", "b", "c"))
    evaluation = Evaluation("linf", RADII, Apgd(steps=5), **settings)
    net = network().float()
    return evaluate(net, split, evaluation, name="m", records=tmp_path), net, split


def test_records_hold_them_and_do_not_depend_on_how_they_were_cut(tmp_path):
    margins = Margins(steps=10)
    whole, net, split = judged(tmp_path / "whole", margins=margins)
    judged(tmp_path / "parts", margins=margins, limit=5)
    parts, _, _ = judged(tmp_path / "parts", margins=margins, batch_size=2)
    # A matrix product of other rows rounds otherwise; verdicts are equal all the same.
    assert_frame_equal(parts.frame, whole.frame.select(parts.frame.columns), abs_tol=1e-4)
    found = verdicts(whole)
    order = [split.ids.index(i) for i in found.ids]
    p = net(split.images[order]).softmax(1).detach().numpy()
    assert not found.accurate().all()
    own = p[np.arange(12), split.labels[order].numpy()]
    np.testing.assert_array_equal(found.values("margin") > 0, found.accurate())
    for radius in RADII:
        assert (found.searched("worst_margin", radius) <= found.values("margin") + 1e-6).all()
        least, worst, entropy, margin, stable = (
            found.searched(kind, radius)
            for kind in (
                "least_confidence",
                "worst_confidence",
                "largest_entropy",
                "stable_margin",
                "stable_confidence",
            )
        )
        right = found.accurate()
        assert (margin[right] == found.searched("worst_margin", radius)[right]).all()
        assert (stable[right] == least[right]).all()
        assert (margin[~right] <= (p.max(1) - np.sort(p, 1)[:, -2])[~right] + 1e-6).all()
        assert (stable[~right] <= p.max(1)[~right] + 1e-6).all()
        assert (entropy >= found.values("entropy") - 1e-6).all()
        assert (least <= own + 1e-6).all()
        assert (found.searched("worst_margin", radius) >= least - worst - 1e-12).all()
        # A margin below 0 somewhere is another answer somewhere, which no weaker attack may deny.
        surely = found.searched("worst_margin", radius) > 0
        assert surely.any()
        assert (found.accurate() | ~surely).all()
    without, _, _ = judged(tmp_path / "without")
    assert without.meta.key != whole.meta.key
    with pytest.raises(RecordError, match="evaluate --margins makes it"):
        verdicts(without).searched("worst_margin", RADII[0])


def test_no_steps_are_no_search():
    with pytest.raises(ConfigError, match="at least one step"):
        Margins(steps=0)


def test_margins_may_be_asked_at_some_radii_alone(tmp_path):
    record, _, _ = judged(tmp_path, margins=Margins(steps=2, radii=RADII[:1]))
    assert f"worst_margin@{RADII[0]}" in record.frame.columns
    assert f"worst_margin@{RADII[1]}" not in record.frame.columns
    with pytest.raises(ConfigError, match=r"margins at 0\.3 are asked for, which is not judged"):
        judged(tmp_path, margins=Margins(radii=(0.3,)))
