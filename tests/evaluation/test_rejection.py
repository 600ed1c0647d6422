"""A network that may reject: attacks find what geometry says, and the page is written."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from recuse.analysis.rejection import rejecting, sure_radius
from recuse.analysis.verdicts import verdicts
from recuse.attacks import Apgd
from recuse.cli.main import main
from recuse.data.split import Split
from recuse.errors import ConfigError
from recuse.evaluation.rejection import Rejection, judge_rejection
from recuse.recipes import RunLocation, recipe, run
from recuse.records.layout import PAGE, RECORDS, REPORT
from recuse.records.schema import RecordMeta, make_record, radius_column
from recuse.records.store import read_records, write_record
from recuse.report.study.rejection import write_rejection

EPS, SHARES = 0.1, (0.0, 0.5, 1.0)


class Line(nn.Module):
    """Two classes on either side of a line through the middle of the square of images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = 3 * (2 * x.flatten(1)[:, 0] + x.flatten(1)[:, 1] - 1.5)
        return torch.stack([-score, score], dim=1)


def points() -> tuple[Split, torch.Tensor]:
    """Images at known distances from the line, the last ones labelled wrongly."""
    offsets = torch.linspace(0.01, 0.31, 16).repeat(2)
    x = torch.full((32, 1, 2, 1), 0.5) + offsets[:, None, None, None]
    labels = torch.ones(32, dtype=torch.long)
    labels[16:] = 0
    ids = tuple(f"{i:02d}" for i in range(32))
    return Split("square/test", x, labels, ids, ("below", "above")), offsets


@pytest.mark.parametrize("radius", [0.018, 0.055, 0.105, 0.205])
def test_what_is_found_is_what_geometry_says(radius: float, tmp_path: Path) -> None:
    split, distance = points()
    how = Rejection("linf", EPS, radius, SHARES, Apgd(steps=5), steps=5, goal_steps=5)
    record = judge_rejection(Line(), split, how, name="line", records=tmp_path)
    (found,) = rejecting([record])
    right = torch.arange(32) < 16
    # On the other side of the line, and far enough from it to be accepted there.
    fooled = right & (EPS - distance > radius) | ~right & (distance + EPS > radius)
    assert found.broken.tolist() == (fooled & right).tolist()
    assert not (radius >= EPS and found.broken.any())
    for share, counted in zip(SHARES, found.counted, strict=True):
        accepted = distance - share * EPS > radius
        assert counted.tolist() == (right & accepted & ~fooled).tolist()
    # What is promised from the network alone, which is known exactly here.
    alone = RecordMeta("line", split.name, "exact", "linf", ("0.1",), record.meta.weights)
    columns = {"sample_id": list(split.ids), "accurate": right.numpy()}
    near = make_record(alone, columns | {"robust@0.1": (distance > EPS).numpy()})
    needed = {sure_radius(radius, share, EPS) for share in SHARES}
    assert rejecting([record], [verdicts(near)])[0].promised == ()  # judged less far than it needs
    columns |= {radius_column("robust", r): (distance > r).numpy() for r in needed}
    (found,) = rejecting([record], [verdicts(make_record(alone, columns))])
    assert found.contradictions == 0
    assert any(mask.any() for mask in found.promised)
    for share, sure, counted in zip(SHARES, found.promised, found.counted, strict=True):
        assert (sure <= counted).all()
        assert sure.tolist() == (right & (distance > max(EPS, radius + share * EPS))).tolist()
    assert [rate.estimate for rate in found.rates] == sorted(
        (rate.estimate for rate in found.rates), reverse=True
    )
    assert judge_rejection(Line(), split, how, name="line", records=tmp_path).frame.equals(
        record.frame
    )


@pytest.mark.parametrize("shares", [(0.5, 1.0), (0.0, 0.5), (0.0, 1.0, 0.5)])
def test_shares_that_are_none_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="ascend from 0 to 1"):
        Rejection("linf", EPS, 0.1, shares)


def test_the_study_judges_and_writes_its_page(shared_data: Path, tmp_path: Path) -> None:
    place = RunLocation(tmp_path, shared_data)
    assert run(recipe("rejection", quick=True), place) == tmp_path / REPORT
    text = (tmp_path / PAGE).read_text()
    assert "| ρ = 0.18 ε, 10 steps |" in text
    assert text.count(" of 4 |") == 5
    sound, paired = text.split("**Sound.**")[1].split("**Against")
    rows = [line for line in sound.splitlines() if line.startswith("| ρ")]
    assert len(rows) == 5
    assert all(line.endswith("| 0 |") for line in rows)
    assert paired.count("\n| ρ") == 4
    for line in text.split("**Sound.**")[0].splitlines():
        if line.startswith(("| ρ = 1 ", "| ρ = 2 ")):
            assert line.endswith("| 0 of 4 |")
    # What an attack elsewhere broke lowers what is promised of these.
    (alone,) = read_records(tmp_path)
    near = alone.meta.radii[0]
    meta = replace(alone.meta, method="elsewhere", radii=(near,))
    columns = {c: alone.frame[c] for c in ("sample_id", "label", "prediction", "accurate")}
    broken = make_record(meta, columns | {f"robust@{near}": [False] * alone.frame.height})
    write_record(tmp_path / "other" / RECORDS, broken)
    main(["records", "gather", str(tmp_path), str(tmp_path / "other")])
    write_rejection(tmp_path, tmp_path / "again")
    again = (tmp_path / "again" / PAGE).read_text().split("**Sound.**")[1].split("**Against")[0]
    lowered = [line for line in again.splitlines() if line.startswith("| ρ")]
    assert len(lowered) == 5
    assert lowered != rows
