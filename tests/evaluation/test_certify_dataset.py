"""Records of certified data sets: right where the truth is known, resumable, one truth only."""

from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import Tensor, nn

from recuse.analysis.verdicts import verdicts
from recuse.certify import Cohen, GroupSequential, Ibp, needed_radius
from recuse.data.split import Split
from recuse.errors import CertificationError, ConfigError, DataError
from recuse.evaluation.certify_dataset import Certification, certify_dataset
from recuse.evaluation.identity import probe
from recuse.evaluation.placing import FIRST
from recuse.models import weights_sha256
from recuse.radius import format_radius
from recuse.records.store import Shards, read_record

RADII = (0.12, 0.24)
DISTANCES = [-0.4, -0.18, -0.06, 0.0, 0.06, 0.18, 0.3, 0.4]
# Images to see that the network fits, and the probe by which it is known, three times.
KNOWN = min(FIRST, len(DISTANCES)) + 4 * len(probe((1, 4, 4)))


class HalfSpace(nn.Module):
    """Class 1 where the mean coordinate, scaled to unit length, is above 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((16,), 0.25))
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += len(x)
        score = x.flatten(1) @ self.weight - 1.0
        return torch.stack([-score, score], dim=1)


def points() -> Split:
    images = ((torch.tensor(DISTANCES) + 1) / 4).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    labels = torch.ones(len(DISTANCES), dtype=torch.int64)
    return Split(
        "line/test", images, labels, tuple(f"p{i}" for i in range(len(labels))), ("a", "b")
    )


def plan(**changes: object) -> Certification:
    certifier = GroupSequential(0.12, n_max=4000)
    return Certification(**({"certifier": certifier, "radii": RADII} | changes))


def certified(folder: Path, certification: Certification, model: nn.Module | None = None):
    model = (model or HalfSpace()).eval()
    return certify_dataset(model, points(), certification, name="half", records=folder)


def test_rows_are_right_where_the_truth_is_known(tmp_path: Path) -> None:
    frame = certified(tmp_path, plan()).frame
    assert frame["certified@0.12"].to_list() == [abs(d) > 0.12 for d in DISTANCES]
    assert frame["certified@0.24"].to_list() == [abs(d) > 0.24 for d in DISTANCES]
    assert frame["prediction"].to_list() == [0, 0, 0, None, 1, 1, 1, 1]
    assert frame["accurate"].to_list() == [False] * 4 + [True] * 4
    assert frame["radius"].to_list() == pytest.approx([0.24, 0.12, 0, 0, 0, 0.12, 0.24, 0.24])
    assert frame["samples"].min() > 0
    assert verdicts(certified(tmp_path, plan())).certified("0.24").sum() == 3


def test_the_radius_that_a_deployed_stage_needs_is_certified_too(tmp_path: Path) -> None:
    wanted = plan(deployed=(0.12,))
    needed = needed_radius(wanted.certifier, 0.12, classes=2)
    record = certified(tmp_path, wanted)
    assert 0.25 < needed < 0.3
    alone = needed_radius(wanted.certifier, 0.12, classes=2, radius=0.0)
    assert 0.12 < alone < 0.14
    assert record.meta.radii == ("0.12", format_radius(alone), "0.24", format_radius(needed))
    told = {
        "beta": 0.001,
        "needs": {"0.12": format_radius(needed)},
        "alone": {"0.12": format_radius(alone)},
    }
    assert record.meta.settings["deployed"] == told
    column = record.frame[f"certified@{format_radius(needed)}"].to_list()
    assert column == [abs(d) > 0.27 for d in DISTANCES]
    # Asked or not, the other verdicts are the same; the key is not.
    plain = certified(tmp_path, plan())
    assert plain.frame["certified@0.24"].equals(record.frame["certified@0.24"])
    assert "deployed" not in plain.meta.settings
    assert plain.meta.key != record.meta.key


def test_what_is_certified_is_the_radius_that_the_column_names() -> None:
    sums = tuple(k * (1 / 255) for k in range(1, 100))
    assert Certification(Ibp(), sums).radii == tuple(k / 255 for k in range(1, 100)) != sums


def test_a_deployed_stage_of_bounds_needs_the_double_and_says_nothing_of_chance() -> None:
    wanted = Certification(Ibp(), (0.02,), deployed=(0.02,))
    assert wanted.completed(10).radii == (0.02, 0.04)
    assert "deployed" not in wanted.meta(points(), name="n", weights="", tags={}).settings


def test_a_stage_whose_votes_are_too_few_needs_what_nobody_proves() -> None:
    certifier = GroupSequential(0.12, n_max=4000, guess_weight=1.0)
    wanted = Certification(certifier, (0.12,), deployed=(0.12,))
    assert wanted.completed(2).radii == (0.12,)  # nor alone
    settings = wanted.meta(points(), name="n", weights="", tags={}).settings
    assert settings["deployed"]["needs"] == {"0.12": None}


def test_a_killed_run_draws_nothing_again_and_ends_the_same(tmp_path: Path) -> None:
    whole = certified(tmp_path / "whole", plan(chunk=100))

    class Killed(HalfSpace):
        def forward(self, x: Tensor) -> Tensor:
            if self.passes > 800:
                raise KeyboardInterrupt
            return super().forward(x)

    model = Killed()
    with pytest.raises(KeyboardInterrupt):
        certified(tmp_path / "part", plan(chunk=2), model)
    meta = plan().meta(points(), name="half", weights=weights_sha256(model), tags={})
    kept = Shards.of(tmp_path / "part", meta).frame()["sample_id"]
    assert 0 < len(kept) < len(DISTANCES)
    again = HalfSpace()
    resumed = certified(tmp_path / "part", plan(chunk=3), again)
    assert_frame_equal(resumed.frame, whole.frame)
    spent = whole.frame.filter(~pl.col("sample_id").is_in(list(kept)))["samples"].sum()
    clean = KNOWN + len(DISTANCES) - len(kept)
    assert again.passes == spent + clean
    once_more = HalfSpace()
    certified(tmp_path / "part", plan(chunk=3), once_more)
    assert once_more.passes == KNOWN


def test_a_limit_and_a_batch_size_change_no_row(tmp_path: Path) -> None:
    whole = certified(tmp_path / "a", plan())
    some = certified(tmp_path / "b", plan(limit=3))
    assert_frame_equal(some.frame, whole.frame.head(3))
    small = certified(
        tmp_path / "c", plan(certifier=GroupSequential(0.12, n_max=4000, batch_size=8))
    )
    assert_frame_equal(small.frame, whole.frame)
    assert small.meta.key == whole.meta.key


def test_the_record_says_what_was_proven_and_how(tmp_path: Path) -> None:
    record = certified(tmp_path, plan())
    meta = read_record(next(tmp_path.iterdir())).meta
    assert meta == record.meta
    assert (meta.method, meta.norm, meta.radii) == ("smoothing", "l2", ("0.12", "0.24"))
    assert meta.settings["sigma"] == meta.tags["sigma"] == 0.12
    assert meta.settings["certifier"]["n_max"] == 4000
    assert 0.5e-3 < meta.settings["level"] <= meta.settings["alpha"] == 1e-3
    other = plan(seed=1).meta(points(), name="half", weights="", tags={})
    assert other.key != meta.key


def test_every_certifier_writes_the_same_columns(tmp_path: Path) -> None:
    split, model = points(), nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-0.25], [0.25]]).expand(2, 16))
        model[1].bias.copy_(torch.tensor([1.0, -1.0]))
    columns = None
    for certifier in (GroupSequential(0.12, n_max=500), Cohen(0.12, n=500), Ibp()):
        record = certify_dataset(
            model,
            split,
            Certification(certifier, (0.02, 0.04)),
            name=type(certifier).__name__,
            records=tmp_path,
        )
        columns = columns or record.frame.columns
        assert record.frame.columns == columns
        assert record.frame["certified@0.02"].any()
    # Fixed-size certification knows the radius itself, not only the radii asked about.
    fixed = certify_dataset(
        model, split, Certification(Cohen(0.12, n=500), (0.02,)), name="fixed", records=tmp_path
    )
    assert fixed.frame["radius"].max() > 0.2


def test_a_radius_out_of_reach_is_refused_at_once_but_its_double_is_recorded(
    tmp_path: Path,
) -> None:
    with pytest.raises(CertificationError, match="453,794 draws"):
        plan(radii=(0.5,), certifier=GroupSequential(0.12))
    with pytest.raises(CertificationError, match="only 500 are allowed"):
        plan(radii=(0.5,), certifier=Cohen(0.12, n=500))
    frame = certified(tmp_path, plan(radii=(0.3, 0.6))).frame
    assert frame["certified@0.3"].any()
    assert not frame["certified@0.6"].any()


@pytest.mark.parametrize(
    "changes", [{"radii": ()}, {"radii": (0.2, 0.1)}, {"radii": (0.0,)}, {"limit": 0}, {"chunk": 0}]
)
def test_plans_that_certify_nothing_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        plan(**changes)


def test_models_that_do_not_fit_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read images"):
        certified(tmp_path, plan(), nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))
    assert not list(tmp_path.iterdir())
    with pytest.raises(CertificationError, match="training mode"):
        certify_dataset(HalfSpace().train(), points(), plan(), name="half", records=tmp_path)
