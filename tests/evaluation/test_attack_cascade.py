"""Compositions attacked as one system: the record, its bounds, and going on after a kill."""

from pathlib import Path

import numpy as np
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import Tensor, nn

from recuse.attacks import Apgd
from recuse.composition import AdaptiveAdversary, Cascade, Core, Stage
from recuse.data.split import Split
from recuse.errors import ConfigError, DataError
from recuse.evaluation.attack_cascade import CascadeAttack, attack_cascade
from recuse.selectors import RobustnessIndicator, SelectionNetwork
from recuse.threat import Threat

BUDGET = Threat("linf", "0.05")


class Halfspace(nn.Module):
    """Two classes split by a hyperplane; the Linf distance to it is |score| / (2 |w|_1)."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(12, generator=draw))

    def forward(self, x: Tensor) -> Tensor:
        score = (x.flatten(1) - 0.5) @ self.weight
        return torch.stack([-score, score], dim=1)

    def distance(self, x: Tensor) -> Tensor:
        score = (x.flatten(1) - 0.5) @ self.weight
        return (score.abs() / self.weight.abs().sum()).detach()


def points(n: int = 60) -> Split:
    draw = torch.Generator().manual_seed(0)
    images = 0.25 + 0.5 * torch.rand(n, 3, 2, 2, generator=draw)
    labels = Halfspace(7)(images).argmax(1)
    return Split("points/test", images, labels, tuple(f"p{i:02d}" for i in range(n)), ("a", "b"))


def deployed() -> Cascade:
    indicator = RobustnessIndicator(BUDGET, Apgd(steps=8))
    return Cascade((Stage(Halfspace(7), indicator, "robust"),), Core(Halfspace(8), "core"), BUDGET)


def plan(**changes: object) -> CascadeAttack:
    adversary = AdaptiveAdversary(steps=8, attacks=(Apgd(steps=8),))
    return CascadeAttack(**({"adversary": adversary} | changes))


def test_what_surely_is_selected_and_right_cannot_be_broken(tmp_path: Path) -> None:
    split, cascade = points(), deployed()
    record = attack_cascade(cascade, split, plan(), records=tmp_path)
    frame = record.frame.sort("sample_id")
    right, attacked = frame["accurate"].to_numpy(), frame["robust@0.05"].to_numpy()
    surely = (cascade.stages[0].model.distance(split.images) > 2 * BUDGET.eps).numpy()
    assert not np.any(attacked & ~right)
    assert np.all(attacked[surely])
    # The stage is never wrong, so the adversary has to make it abstain and the core err.
    assert 0 < surely.sum() < attacked.sum() < right.sum()
    assert np.array_equal(
        frame["selected"].to_numpy(),
        (cascade.stages[0].model.distance(split.images) > BUDGET.eps).numpy(),
    )


class KilledError(Exception):
    pass


def test_a_killed_attack_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    split, told = points(24), []
    whole = attack_cascade(deployed(), split, plan(), records=tmp_path / "whole")

    def kill(task: str, done: int, total: int, note: str = "") -> None:
        if done >= 14:
            raise KilledError

    def count(task: str, done: int, total: int, note: str = "") -> None:
        told.append(done)

    with pytest.raises(KilledError):
        attack_cascade(deployed(), split, plan(chunk=7), records=tmp_path / "other", progress=kill)
    for _ in range(2):
        resumed = attack_cascade(
            deployed(), split, plan(chunk=7), records=tmp_path / "other", progress=count
        )
        assert_frame_equal(resumed.frame, whole.frame)
    assert told == [14, 21, 24, 24]


def test_more_samples_go_on_from_fewer(tmp_path: Path) -> None:
    split, told = points(24), []
    first = attack_cascade(deployed(), split, plan(limit=10), records=tmp_path)
    more = attack_cascade(
        deployed(),
        split,
        plan(),
        records=tmp_path,
        progress=lambda _task, done, _total, *_: told.append(done),
    )
    assert told[0] == 10
    assert_frame_equal(more.frame.head(10), first.frame)
    assert len(list(tmp_path.iterdir())) == 1
    again = attack_cascade(deployed(), split, plan(limit=10), records=tmp_path)
    assert_frame_equal(again.frame, first.frame)


def test_a_network_inside_a_selector_is_part_of_the_key(tmp_path: Path) -> None:
    split = points(8)
    for seed in (1, 2):
        selector = SelectionNetwork(Halfspace(seed), 0.0)
        cascade = Cascade((Stage(Halfspace(7), selector),), Core(Halfspace(8)), BUDGET)
        attack_cascade(cascade, split, plan(), records=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    wide = Split("wide/test", torch.rand(2, 3, 4, 4), torch.zeros(2).long(), ("a", "b"), ("x", "y"))
    with pytest.raises((ConfigError, DataError), match="shape"):
        attack_cascade(deployed(), wide, plan(), records=tmp_path / "r")
    assert not (tmp_path / "r").exists()
    with pytest.raises(ConfigError, match="chunk 0"):
        plan(chunk=0)
