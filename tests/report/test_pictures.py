import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from recuse.errors import RecordError
from recuse.records.regions import read_regions
from recuse.report.charts.curves import CertifiedCurve, certified_accuracy, training_curves
from recuse.report.charts.decision_regions import class_map, decision_regions
from recuse.report.run.gallery import enlarge, gallery, perturbation


def picture(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.array(pixels, dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def pixels(data: bytes):
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def frame(**columns) -> pl.DataFrame:
    clean, moved = picture([[0, 9], [9, 9]]), picture([[4, 9], [9, 5]])
    rows = {
        "sample_id": ["s1"],
        "label": ["seven"],
        "prediction": ["one"],
        "adversarial_prediction": ["nine"],
        "model": ["era"],
        "eps": ["linf:8/255"],
        "image": [clean],
        "adversarial": [moved],
    }
    return pl.DataFrame(rows | columns)


def test_enlarging_repeats_pixels_and_invents_none():
    large = pixels(enlarge(picture([[0, 255], [100, 7]])))
    assert large.shape == (160, 160)
    assert (large[:80, :80] == 0).all()
    assert (large[80:, 80:] == 7).all()


def test_the_perturbation_is_around_grey_and_stretched():
    shown = pixels(perturbation(picture([[10, 10], [10, 10]]), picture([[14, 10], [8, 10]])))
    assert shown.tolist() == [[255, 128], [64, 128]]


def test_equal_images_have_a_grey_perturbation():
    same = picture([[3, 200]])
    assert pixels(perturbation(same, same)).tolist() == [[128, 128]]


def test_a_picture_says_what_would_have_been_answered():
    (shown,) = gallery(frame()).pictures
    assert [image.caption for image in shown.images] == [
        "answer one",
        "perturbation",
        "answer nine",
    ]
    assert "seven" in shown.title
    assert "era abstains at linf 8/255, which avoids a wrong answer" in shown.caption


def test_without_an_adversarial_the_input_stands_alone():
    (shown,) = gallery(frame().drop("adversarial", "model", "eps")).pictures
    assert len(shown.images) == 1


@pytest.mark.parametrize("image", [b"", b"no picture"])
def test_damaged_pictures_are_refused(image):
    with pytest.raises(RecordError, match="gallery"):
        gallery(frame(image=[image]))


def test_pictures_of_different_sizes_are_refused():
    with pytest.raises(RecordError, match="shape"):
        gallery(frame(adversarial=[picture([[1, 2, 3]])]))


def test_the_map_has_its_second_coordinate_upwards():
    shown = pixels(class_map(np.array([[0, 0], [1, 2]]), 3))
    assert shown.shape == (2, 2, 3)
    assert (shown[1, 0] == shown[1, 1]).all()
    assert len({tuple(p) for p in shown.reshape(-1, 3)}) == 3
    assert (shown[0, 0] != shown[1, 0]).any()


def test_regions_show_each_model_with_its_status(write_run):
    regions = read_regions(write_run(extras=True) / "regions.npz")
    spec = decision_regions(regions).to_dict()
    (panel,) = spec["concat"]
    names = [layer["data"]["name"] for layer in panel["layer"][1:]]
    status = [[row["status"] for row in spec["datasets"][name]] for name in names]
    assert status == [[], ["not robust"], ["robust and wrong"]]
    assert panel["title"]["subtitle"] == "0.0 % robust and right, 50.0 % robust and wrong"


@pytest.mark.parametrize("missing", ["classes", "robust", "eps"])
def test_regions_without_an_array_are_refused(write_run, missing):
    path = write_run(extras=True) / "regions.npz"
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files if name != missing}
    np.savez(path, **arrays)
    with pytest.raises(RecordError, match=missing):
        read_regions(path)


def test_regions_of_other_sizes_or_truncated_are_refused(write_run):
    path = write_run(extras=True) / "regions.npz"
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(path, **(arrays | {"robust": np.array([[True]])}))
    with pytest.raises(RecordError, match="do not fit"):
        read_regions(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RecordError, match=r"regions\.npz"):
        read_regions(path)


def test_certified_accuracy_is_the_share_that_is_right_out_there():
    radius = np.array([0.0, 0.5, 1.0, 1.0])
    accurate = np.array([True, True, True, False])
    spec = certified_accuracy([CertifiedCurve("m", "l2", radius, accurate)]).to_dict()
    (rows,) = spec["datasets"].values()
    shares = {row["radius"]: row["share"] for row in rows}
    assert shares[0.0] == 75.0
    assert shares[1.0] == 25.0
    assert [r["share"] for r in rows] == sorted((r["share"] for r in rows), reverse=True)


def test_training_curves_show_the_logged_rates_only():
    log = pl.DataFrame({"epoch": [1, 2], "natural": [2.0, 1.0], "robust_accuracy": [0.1, None]})
    chart = training_curves({"era": log})
    assert chart is not None
    (rows,) = chart.to_dict()["datasets"].values()
    assert rows == [{"model": "era", "rate": "robust accuracy", "epoch": 1, "value": 10.0}]
    assert training_curves({"era": log.drop("robust_accuracy")}) is None
