"""An attack on certificates, where the answer is known: a linear network under noise."""

from pathlib import Path
from statistics import NormalDist

import polars as pl
import pytest
import torch
from torch import nn

from recuse.analysis.certified import broken
from recuse.attacks import Apgd
from recuse.certify import GroupSequential
from recuse.data import Split
from recuse.errors import ConfigError
from recuse.evaluation.attack_certificates import CertificateAttack, attack_certificates
from recuse.evaluation.certify_dataset import Certification, certify_dataset
from recuse.records.schema import Record

SIGMA, RADIUS = 0.1, 0.1
# Distances from the boundary x0 = 0.5 on its upper side: certified at the radius, or not.
NEAR, FAR = (0.04, 0.06), (0.22, 0.25, 0.3)


def network(scale: float = 40.0) -> nn.Module:
    """Class 1 where the first coordinate is above one half."""
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 0.0], [scale, 0.0]]))
        layer.bias.copy_(torch.tensor([0.0, -scale / 2]))
    return layer.eval()


def points() -> Split:
    distances = (*NEAR, *FAR)
    x = torch.tensor([[0.5 + d, 0.5] for d in distances])
    ids = tuple(f"points/{n}" for n in range(len(distances)))
    return Split("points", x, torch.ones(len(x), dtype=torch.int64), ids, ("left", "right"))


def certified(model: nn.Module, folder: Path) -> Record:
    certification = Certification(GroupSequential(SIGMA, n_max=4_000), (0.05, RADIUS))
    return certify_dataset(model, points(), certification, name="line", records=folder)


def attack(**settings: object) -> CertificateAttack:
    return CertificateAttack(RADIUS, Apgd(steps=10), thorough=4_000, **settings)


def test_the_attack_goes_as_far_as_it_may_and_breaks_only_what_is_not_proven(tmp_path):
    model = network()
    record = certified(model, tmp_path / "records")
    assert record.frame["certified@0.1"].to_list() == [False, False, True, True, True]
    found = attack_certificates(model, points(), record, attack(), records=tmp_path / "attacked")
    assert found.frame["robust@0.1"].to_list() == [False, False, True, True, True]
    # The worst point of a half-space is known, and with it the share of the votes there.
    worst = [NormalDist().cdf((d - RADIUS) / SIGMA) for d in (*NEAR, *FAR)]
    assert found.frame["score"].to_list() == pytest.approx(worst, abs=0.05)
    counts = broken(found)
    assert (counts.images, counts.certified, counts.broken, counts.moved) == (5, 3, 0, 2)
    assert counts.lowest == pytest.approx(worst[2], abs=0.05)


def test_a_false_certificate_is_found_out(tmp_path):
    model = network()
    record = certified(model, tmp_path / "records")
    claimed = record.frame.with_columns(pl.lit(True).alias("certified@0.1"))
    false = Record(record.meta, claimed)
    found = attack_certificates(model, points(), false, attack(), records=tmp_path / "attacked")
    assert broken(found).broken == len(NEAR)
    # Where a certificate is in doubt, more votes are asked.
    assert found.frame["samples"].to_list() == [4_000, 4_000, 1_000, 1_000, 1_000]


def test_an_attack_goes_on_where_it_stopped(tmp_path):
    model = network()
    record = certified(model, tmp_path / "records")
    whole = attack_certificates(
        model, points(), record, attack(chunk=2), records=tmp_path / "whole"
    )
    for limit in (2, 5):
        parts = attack_certificates(
            model, points(), record, attack(chunk=2, limit=limit), records=tmp_path / "parts"
        )
    assert parts.frame.equals(whole.frame)


def test_certificates_of_another_network_are_not_attacked(tmp_path):
    record = certified(network(), tmp_path / "records")
    with pytest.raises(ConfigError, match="not of this network"):
        attack_certificates(network(20.0), points(), record, attack(), records=tmp_path)
    with pytest.raises(ConfigError, match=r"at 0\.2 are not"):
        attack_certificates(network(), points(), record, CertificateAttack(0.2), records=tmp_path)
    with pytest.raises(ConfigError, match="positive radius"):
        CertificateAttack(0.1, draws=100, thorough=100)
