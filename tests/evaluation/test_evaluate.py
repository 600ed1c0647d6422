from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from torch import Tensor, nn

from recuse.attacks import Apgd, MaskingCheck, Square
from recuse.data.split import Split
from recuse.errors import ConfigError, DataError
from recuse.evaluation import Evaluation, evaluate, judged_radii
from recuse.models import normalized
from recuse.records.schema import non_monotone

RADII = (0.02, 0.05, 0.1)
VERDICTS = ["sample_id", "label", "prediction", "accurate", "confidence"] + [
    f"robust@{radius}" for radius in RADII
]


class Halfspaces(nn.Module):
    """Two classes split by a hyperplane, whose distance to any point is known."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        weight = torch.randn(12, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        score = (x.flatten(1) - 0.5) @ self.weight
        return torch.stack([-score, score], dim=1)


class Returning(nn.Module):
    """A linear network that hands its answer over in some form."""

    def __init__(self, form: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.linear, self.form = nn.Linear(12, 2), form

    def forward(self, x: Tensor) -> object:
        return self.form(self.linear(x.flatten(1)))


def points(n: int = 23) -> Split:
    draw = torch.Generator().manual_seed(0)
    images = 0.35 + 0.3 * torch.rand(n, 3, 2, 2, generator=draw)
    labels = torch.randint(0, 2, (n,), generator=draw)
    return Split("points/test", images, labels, tuple(f"p{i}" for i in range(n)), ("a", "b"))


def plan(**changes: object) -> Evaluation:
    check = MaskingCheck(few=Apgd(steps=2), black=Square(queries=10))
    given = {"norm": "linf", "radii": RADII, "attack": Apgd(steps=8), "recheck": check}
    return Evaluation(**(given | changes))


def test_verdicts_are_those_of_the_known_distance(tmp_path: Path) -> None:
    model, split = Halfspaces(), points()
    record = evaluate(model, split, plan(), name="half", records=tmp_path)
    frame = record.frame.sort(pl.col("sample_id").str.slice(1).cast(pl.Int32))
    with torch.no_grad():
        score = (split.images.flatten(1) - 0.5) @ model.weight
        distance = score.abs() / model.weight.abs().sum()
    for radius in RADII:
        clear = (distance - radius).abs() > 1e-4
        known = (distance > radius)[clear].tolist()
        assert frame[f"robust@{radius}"].filter(pl.Series(clear.tolist())).to_list() == known
    assert 0 < frame["robust@0.05"].sum() < len(split)
    assert frame["accurate"].to_list() == ((score > 0).long() == split.labels).tolist()
    assert non_monotone(record.frame) == 0


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_rows_do_not_depend_on_the_batch_size(tmp_path: Path, batch_size: int) -> None:
    whole = evaluate(Halfspaces(), points(), plan(), name="m", records=tmp_path / "a")
    parts = evaluate(
        Halfspaces(), points(), plan(batch_size=batch_size), name="m", records=tmp_path / "b"
    )
    assert whole.meta.key == parts.meta.key
    assert_frame_equal(whole.frame.select(VERDICTS), parts.frame.select(VERDICTS))


class KilledError(Exception):
    pass


def test_a_killed_evaluation_goes_on_where_it_was(tmp_path: Path) -> None:
    calls: list[int] = []

    def kill(task: str, done: int, total: int, note: str = "") -> None:
        if done >= 10:
            raise KilledError

    def count(task: str, done: int, total: int, note: str = "") -> None:
        calls.append(done)

    with pytest.raises(KilledError):
        evaluate(
            Halfspaces(), points(), plan(batch_size=5), name="m", records=tmp_path, progress=kill
        )
    resumed = evaluate(
        Halfspaces(), points(), plan(batch_size=5), name="m", records=tmp_path, progress=count
    )
    fresh = evaluate(Halfspaces(), points(), plan(batch_size=5), name="m", records=tmp_path / "f")
    assert calls == [10, 15, 20, 23]
    assert_frame_equal(resumed.frame, fresh.frame)


def test_a_limit_is_a_prefix_and_growing_it_keeps_what_is_there(tmp_path: Path) -> None:
    seen: list[int] = []
    few = evaluate(Halfspaces(), points(), plan(limit=6), name="m", records=tmp_path)
    evaluate(
        Halfspaces(),
        points(),
        plan(),
        name="m",
        records=tmp_path,
        progress=lambda task, done, total, note="": seen.append(done),
    )
    again = evaluate(Halfspaces(), points(), plan(limit=6), name="m", records=tmp_path)
    assert seen[0] == 6
    assert_frame_equal(few.frame, again.frame)
    assert sorted(few.frame["sample_id"]) == sorted(points().ids[:6])


def test_other_weights_or_pixels_are_another_record(tmp_path: Path) -> None:
    split = points()
    moved = Split(split.name, split.images * 0.5, split.labels, split.ids, split.label_names)
    meta = plan().meta(split, name="m", weights="w", tags={})
    assert meta.key != plan().meta(moved, name="m", weights="w", tags={}).key
    assert meta.key != plan().meta(split, name="m", weights="v", tags={}).key
    assert meta.key != plan(seed=1).meta(split, name="m", weights="w", tags={}).key
    assert meta.key == plan().meta(split, name="m", weights="w", tags={"beta": 1}).key


def test_two_models_of_one_name_have_a_record_each(tmp_path: Path) -> None:
    split = points()
    for model in (Halfspaces(), Halfspaces(seed=2), Halfspaces()):
        record = evaluate(model, split, plan(), name="m", records=tmp_path)
        frame = record.frame.sort(pl.col("sample_id").str.slice(1).cast(pl.Int32))
        assert frame["prediction"].to_list() == model(split.images).argmax(1).tolist()
    assert len(list(tmp_path.iterdir())) == 2


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_every_radius_comes_with_its_double(steps: list[int]) -> None:
    radii = judged_radii([f"{k}/255" for k in steps])
    assert list(radii) == sorted(set(radii))
    assert all(k / 255 in radii and 2 * k / 255 in radii for k in steps)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), "'m' cannot read images"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), "two classes or more"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.Softmax(dim=1)), "returns probabilities"),
        (Returning(lambda y: (y, y)), "returns a tuple from forward"),
        (Returning(lambda y: {"logits": y}), "returns a dict from forward"),
        (Returning(lambda y: y.flatten()), r"outputs of shape \(32,\) for 16 images"),
        (Returning(lambda y: y).half(), "in float16, in which perturbations are lost"),
        (nn.Sequential(nn.Flatten(), nn.Threshold(2, float("nan")), nn.Linear(12, 2)), "NaN"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    tmp_path: Path, model: nn.Module, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(model, points(), plan(), name="m", records=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_too_few_classes_is_told_which_there_are(tmp_path: Path) -> None:
    split = replace(points(), label_names=("ant", "bee", "cow"))
    with pytest.raises(
        DataError, match=r"'m' tells 2 classes apart, but .* classes ant, bee, cow;"
    ):
        evaluate(Halfspaces(), split, plan(), name="m", records=tmp_path)


def test_a_double_network_is_judged_in_its_own_precision(tmp_path: Path) -> None:
    single = evaluate(Halfspaces(), points(), plan(), name="m", records=tmp_path)
    double = evaluate(Halfspaces().double(), points(), plan(), name="m", records=tmp_path)
    columns = ["sample_id", "prediction", "accurate", *(f"robust@{radius}" for radius in RADII)]
    assert_frame_equal(single.frame.select(columns), double.frame.select(columns))


def small_network() -> nn.Module:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 8, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)).eval()
    with torch.no_grad():
        # Centred, so that the boundary passes through the points.
        network[-1].bias -= network(points(200).images).mean(0)
    return normalized(network, (), ())


def test_a_screen_in_bf16_weakens_no_verdict_and_is_recorded(tmp_path: Path) -> None:
    split = points(200)
    plain = evaluate(small_network(), split, plan(), name="m", records=tmp_path)
    told: list[int] = []
    fast = evaluate(small_network(), split, plan(), name="m", records=tmp_path, precision="bf16")
    again = evaluate(
        small_network(),
        split,
        plan(),
        name="m",
        records=tmp_path,
        precision="bf16",
        progress=lambda task, done, total, note="": told.append(done),
    )
    assert told == [200]
    assert_frame_equal(again.frame, fast.frame)
    for radius in RADII:
        broken = ~plain.frame[f"robust@{radius}"]
        assert not (broken & fast.frame[f"robust@{radius}"]).any()
    assert 0 < (~plain.frame["robust@0.1"]).sum() < 200
    assert fast.meta.settings["screen"]["precision"] == "bf16"
    assert fast.meta.key != plain.meta.key
    # A pool or a report compares records of the same attack.
    assert fast.meta.method == plain.meta.method
    unchanged = ["sample_id", "prediction", "accurate", "confidence"]
    assert_frame_equal(fast.frame.select(unchanged), plain.frame.select(unchanged))
    # What withstood the screen has met every step of the full attack as well.
    steady = fast.frame["robust@0.1"]
    assert (fast.frame["forwards"].filter(steady) > plain.frame["forwards"].max()).all()


class OnlyFp32(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 2), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        if out.dtype != torch.float32:
            raise RuntimeError("needs float32")
        return out


def test_a_network_without_a_copy_in_bf16_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"m has no copy in bf16 \(needs float32\)"):
        evaluate(OnlyFp32(), points(), plan(), name="m", records=tmp_path, precision="bf16")
    assert list(tmp_path.iterdir()) == []


def normed_network() -> nn.Module:
    torch.manual_seed(4)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    for _ in range(20):
        network(points(64).images)  # moves the running statistics to the data
    with torch.no_grad():
        network[-1].bias -= network.eval()(points(200).images).mean(0)
    return network


def test_searching_on_a_prepared_copy_changes_no_verdict(tmp_path: Path) -> None:
    split, model = points(200), normed_network()
    given = evaluate(model, split, plan(), name="m", records=tmp_path, prepared=False)
    found = evaluate(model, split, plan(), name="m", records=tmp_path)
    assert found.meta.settings["copy"] == "prepared"
    assert "copy" not in given.meta.settings
    assert found.meta.key != given.meta.key
    assert 0 < given.frame["robust@0.1"].sum() < 200
    assert_frame_equal(found.frame.select(VERDICTS), given.frame.select(VERDICTS))


class Whimsical(nn.Module):
    """Adds noise drawn anew in every pass, which a traced copy would freeze."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_network()
        self.drawn = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(2, generator=self.drawn)
        out: Tensor = self.inner(x) + noise
        return out


def test_a_network_whose_copy_answers_otherwise_is_attacked_as_it_is(tmp_path: Path) -> None:
    record = evaluate(Whimsical(), points(), plan(), name="m", records=tmp_path)
    assert "copy" not in record.meta.settings


def test_a_network_is_judged_in_eval_mode_and_left_as_it_was(tmp_path: Path) -> None:
    split, model = points(60), normed_network()
    expected = evaluate(model.eval(), split, plan(), name="m", records=tmp_path / "eval")
    model.train()
    model[1].eval()
    statistics = model[1].running_mean.clone()
    found = evaluate(model, split, plan(), name="m", records=tmp_path / "train")
    assert_frame_equal(found.frame, expected.frame)
    assert [module.training for module in model] == [True, False, True, True, True, True]
    assert torch.equal(model[1].running_mean, statistics)


def test_grey_images_do_not_pass_for_coloured_ones(tmp_path: Path) -> None:
    model, split = normalized(Halfspaces(), (0.5,) * 3, (1.0,) * 3), points()
    grey = replace(split, images=split.images[:, :1])
    with pytest.raises(DataError, match="'x' normalises 3 channels but the images have 1"):
        evaluate(model, grey, plan(), name="x", records=tmp_path)


def test_senseless_plans_are_refused() -> None:
    with pytest.raises(ConfigError, match="ascend"):
        plan(radii=(0.1, 0.05))
    with pytest.raises(ConfigError, match="limit"):
        plan(limit=0)
