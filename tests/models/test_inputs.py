import numpy as np
import pytest
import torch
from torch import nn

from recuse.errors import DataError
from recuse.models.inputs import check_images, check_outputs, logits_of

IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "images", [IMAGES, IMAGES.double(), IMAGES[:0], IMAGES[:, :1], IMAGES[:, 0, 0], 1.0 - IMAGES]
)
def test_images_in_the_unit_range_pass_untouched(images):
    assert check_images(images) is images


def test_a_tiny_channels_first_image_is_not_mistaken():
    check_images(torch.rand(2, 3, 3, 3))
    check_images(torch.rand(2, 1, 4, 3))
    check_images(torch.tensor([[0.0, 1.0]]))


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (IMAGES.numpy(), r"is a ndarray, not a tensor; .*torch\.as_tensor"),
        ([0.1, 0.2], "is a list, not a tensor"),
        ((IMAGES * 255).byte(), r"in uint8, but images are floats .* x\.float\(\) / 255"),
        (IMAGES[0], r"shape \(3, 8, 8\), a single image; .* x\[None\]"),
        (IMAGES[0, 0, 0], r"shape \(8,\), but a batch of images is"),
        (IMAGES.permute(0, 2, 3, 1), r"channels last; write x\.permute\(0, 3, 1, 2\)"),
        (IMAGES * 255, r"values from .* to 25\d.*, not in \[0, 1\]; divide .* by 255"),
        ((IMAGES - 0.5) / 0.25, "before any normalisation"),
        (IMAGES + 0.003, r"clamp them"),
        (IMAGES.clone().index_fill_(0, torch.tensor([1]), torch.nan), "holds NaN or infinity"),
        (IMAGES.clone().index_fill_(0, torch.tensor([1]), torch.inf), "holds NaN or infinity"),
    ],
)
def test_what_is_no_batch_of_images_is_refused_in_one_sentence(images, sentence):
    with pytest.raises(DataError, match=f"^the photos .*{sentence}") as refusal:
        check_images(images, name="the photos")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        ((IMAGES[:, 0, 0], 1), "'net' returns a tuple from forward"),
        ({"logits": IMAGES[:, 0, 0]}, "'net' returns a dict from forward"),
        (IMAGES, r"outputs of shape \(5, 3, 8, 8\) for 5 images"),
        (IMAGES[:4, 0, 0], r"outputs of shape \(4, 8\) for 5 images"),
        (IMAGES[:, 0, 0, :1], "with two classes or more"),
        (IMAGES[:, 0, 0].long(), "outputs in int64, but logits are floats"),
        (IMAGES[:, 0, 0].softmax(1), r"returns probabilities \(rows sum to 1\).* drop its last"),
        (IMAGES[:, 0, 0].half().softmax(1), "returns probabilities"),
    ],
)
def test_outputs_that_are_no_logits_are_refused_in_one_sentence(outputs, sentence):
    with pytest.raises(DataError, match=sentence):
        check_outputs(outputs, 5, "net")


@pytest.mark.parametrize(
    "logits",
    [
        IMAGES[:, 0, 0],
        torch.eye(5),  # a hard vote
        IMAGES[:, 0, 0].log_softmax(1),
        torch.full((5, 3), torch.nan),  # no answer, but of the right form
        torch.zeros(5, 2),
    ],
)
def test_logits_pass(logits):
    assert check_outputs(logits, 5, "net") is logits


def test_a_model_that_cannot_read_the_images_says_so():
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    assert logits_of(net, IMAGES, "net").shape == (5, 4)
    assert not logits_of(net, IMAGES, "net").requires_grad
    with pytest.raises(DataError, match=r"computes in float32 .* in float64; write x\.to\(torch"):
        logits_of(net, IMAGES.double(), "net")
    with pytest.raises(DataError, match=r"'net' cannot read images of shape \(3, 8, 4\): "):
        logits_of(net, IMAGES[..., :4], "net")
    with pytest.raises(DataError, match="returns a tuple"):
        logits_of(nn.LSTM(8, 3), IMAGES[:, 0], "net")
    with pytest.raises(DataError, match="drop its last softmax"):
        logits_of(nn.Sequential(net, nn.Softmax(dim=1)), IMAGES, "net")


def test_numpy_scalars_do_not_pass_for_images():
    with pytest.raises(DataError, match="not a tensor"):
        check_images(np.float32(0.5))
