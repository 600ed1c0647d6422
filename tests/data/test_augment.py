import math
import sys

import pytest
import torch

from recuse.data.augment import (
    AUGMENTATIONS,
    Augment,
    AutoAugmentCifar10,
    CropFlip,
    NoAugment,
    SignStandard,
    check_augment,
    jitter_colour,
    rotate_shift,
)
from recuse.data.autoaugment import CIFAR10_POLICY, OPERATIONS, apply_policy, apply_step
from recuse.data.digits import Digits
from recuse.data.gaussians import Gaussians
from recuse.errors import ConfigError
from recuse.random import SampleNoise
from recuse.torchvision_shim import load_torchvision

IDS = tuple(f"x/{i}" for i in range(24))


def _images(n: int = 24, size: int = 32) -> torch.Tensor:
    pixels = torch.randint(0, 256, (n, 3, size, size), generator=torch.Generator().manual_seed(1))
    return pixels / 255


def _noise(n: int = 24, epoch: int = 0, seed: int = 0) -> SampleNoise:
    return SampleNoise(seed, IDS[:n], f"epoch{epoch}")


@pytest.fixture(scope="module")
def tv():
    return load_torchvision("torchvision.transforms.v2.functional", purpose="the test")


@pytest.mark.parametrize("augment", [cls() for cls in AUGMENTATIONS.values()], ids=repr)
def test_a_row_depends_only_on_its_image_id_seed_and_epoch(augment: Augment) -> None:
    x = _images()
    whole = augment(x, _noise())
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2)).tolist()
    parts = [augment(x[order[i : i + 5]], _noise().take(order[i : i + 5])) for i in range(0, 24, 5)]
    assert torch.equal(torch.cat(parts), whole[order])
    assert torch.equal(augment(x, _noise()), whole)
    assert whole.shape == x.shape
    assert whole.dtype == x.dtype
    assert whole.min() >= 0
    assert whole.max() <= 1
    if not isinstance(augment, NoAugment):
        assert not torch.equal(augment(x, _noise(epoch=1)), whole)
        assert not torch.equal(augment(x, _noise(seed=1)), whole)


@pytest.mark.parametrize("cls", AUGMENTATIONS.values())
def test_the_global_generator_is_left_alone(cls: type[Augment]) -> None:
    before = torch.get_rng_state()
    cls()(_images(), _noise())
    assert torch.equal(torch.get_rng_state(), before)


def test_crop_flip_is_a_shift_of_the_padded_image_and_reaches_every_offset() -> None:
    x = _images(1, size=6)
    ids = tuple(f"many/{i}" for i in range(3000))
    out = CropFlip(padding=2)(x.expand(3000, -1, -1, -1), SampleNoise(0, ids))
    padded = torch.nn.functional.pad(x, [2] * 4)
    seen = torch.zeros(2, 5, 5)
    for mirrored in (0, 1):
        for dy in range(5):
            for dx in range(5):
                shifted = padded[..., dy : dy + 6, dx : dx + 6]
                shifted = shifted.flip(-1) if mirrored else shifted
                seen[mirrored, dy, dx] = (out == shifted).flatten(1).all(dim=1).sum()
    assert seen.sum() == 3000
    # 50 equally likely outcomes, 60 expected each, sd 7.7: five deviations either way.
    assert seen.min() > 20
    assert seen.max() < 100


def test_crop_without_padding_and_flip_changes_nothing() -> None:
    x = _images()
    assert torch.equal(CropFlip(padding=0, flip=False)(x, _noise()), x)


@pytest.mark.parametrize("operation", [0, 1, 2])
@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_colour_jitter_agrees_with_torchvision(tv, operation: int, factor: float) -> None:
    x = _images()
    factors = torch.ones(24, 3)
    factors[:, operation] = factor
    order = torch.tensor([0, 1, 2]).expand(24, 3)
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)[operation]
    torch.testing.assert_close(
        jitter_colour(x, factors, order), adjust(x, factor), atol=1e-5, rtol=0
    )


def test_colour_jitter_follows_each_rows_order(tv) -> None:
    x = _images(2)
    factors = torch.tensor([[1.1, 0.9, 1.1]]).expand(2, 3)
    out = jitter_colour(x, factors, torch.tensor([[0, 1, 2], [2, 1, 0]]))
    first = tv.adjust_saturation(tv.adjust_contrast(tv.adjust_brightness(x, 1.1), 0.9), 1.1)
    second = tv.adjust_brightness(tv.adjust_contrast(tv.adjust_saturation(x, 1.1), 0.9), 1.1)
    torch.testing.assert_close(out[0], first[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(out[1], second[1], atol=1e-5, rtol=0)
    assert not torch.allclose(first[0], second[0], atol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_rotation_and_shift_agree_with_torchvision(tv, size: tuple[int, int]) -> None:
    x = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(3))
    out = rotate_shift(x, torch.full((3,), 11.0), torch.tensor([[2 / size[1], -3 / size[0]]] * 3))
    bilinear = tv.InterpolationMode.BILINEAR
    expected = tv.affine(
        x, angle=11.0, translate=[2, -3], scale=1.0, shear=[0.0, 0.0], interpolation=bilinear
    )
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=0)


def test_identity_rotation_changes_nothing() -> None:
    x = _images()
    out = rotate_shift(x, torch.zeros(24), torch.zeros(24, 2))
    torch.testing.assert_close(out, x, atol=1e-5, rtol=0)


def test_the_policy_is_the_published_one() -> None:
    v2 = load_torchvision("torchvision.transforms.v2", purpose="the test")
    enum = load_torchvision("torchvision.transforms", purpose="the test").AutoAugmentPolicy.CIFAR10
    published = v2.AutoAugment(enum)._get_policies(enum)
    ours = [
        tuple((s.name, s.probability, s.level) for s in sub_policy) for sub_policy in CIFAR10_POLICY
    ]
    assert ours == [tuple((n, p, level or 0) for n, p, level in pair) for pair in published]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("level", [0, 3, 7, 9])
@pytest.mark.parametrize("negative", [False, True])
def test_every_operation_is_torchvisions(name: str, level: int, negative: bool) -> None:
    v2 = load_torchvision("torchvision.transforms.v2", purpose="the test")
    space = v2.AutoAugment._AUGMENTATION_SPACE
    magnitudes, signed = space[name]
    values = magnitudes(10, 32, 32)
    magnitude = float(values[level]) if values is not None else 0.0
    if negative and not signed:
        pytest.skip("the operation has no direction")
    magnitude = -magnitude if negative else magnitude
    nearest = v2.InterpolationMode.NEAREST
    pixels = (_images(4) * 255).round().to(torch.uint8)
    expected = v2.AutoAugment()._apply_image_or_video_transform(
        pixels, name, magnitude, nearest, {torch.Tensor: None}
    )
    ours = apply_step(name, pixels, level, negative=negative)
    # Strengths are float32 there and float64 here: a blend may round to the next 8-bit level.
    difference = (ours.int() - expected.int()).abs()
    assert difference.max() <= 1
    assert difference.float().mean() < 0.03


def test_policy_probabilities_decide_per_row() -> None:
    pixels = (_images(4) * 255).round().to(torch.uint8)
    # Sub-policy 0: invert with 0.1, then contrast with 0.2.
    draw = torch.tensor([[0.0, p, 0.9, 0.9, 0.9] for p in (0.05, 0.099, 0.101, 0.9)])
    out = apply_policy(CIFAR10_POLICY, pixels, draw)
    assert torch.equal(out[:2], 255 - pixels[:2])
    assert torch.equal(out[2:], pixels[2:])


def test_missing_torchvision_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    load_torchvision.cache_clear()
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ConfigError, match=r"recuse\[vision\]"):
        AutoAugmentCifar10()(_images(), _noise())
    load_torchvision.cache_clear()


def test_an_augmentation_that_does_not_fit_is_refused() -> None:
    points, grey = Gaussians().load().train, Digits().load().train
    check_augment(NoAugment(), points)
    check_augment(CropFlip(1), grey)
    with pytest.raises(ConfigError, match="NoAugment"):
        check_augment(CropFlip(), points)
    with pytest.raises(ConfigError, match="grey"):
        check_augment(SignStandard(), grey)


def test_sign_standard_moves_a_dot_no_further_than_its_settings() -> None:
    x = torch.zeros(24, 3, 64, 64)
    x[:, :, 31:33, 31:33] = 1
    out = SignStandard()(x, _noise())
    mass = out.sum(dim=1)
    grid = torch.arange(64) + 0.5
    centre = torch.stack([(mass.sum(1) * grid).sum(1), (mass.sum(2) * grid).sum(1)], 1)
    centre = centre / mass.sum(dim=(1, 2))[:, None]
    # Crop by at most 4, shift by at most 6.4; the rotation turns the crop's offset only.
    limit = 4 * math.sqrt(2) + 6.4 + 0.5
    assert ((centre - 32).abs() <= limit).all()
    assert (centre - 32).abs().max() > 4


def test_zoom_resizes_about_the_centre_and_leaves_every_other_draw_alone() -> None:
    picture = torch.zeros(1, 3, 32, 32)
    picture[:, :, 12:20, 12:20] = 1.0
    twice = rotate_shift(picture, torch.zeros(1), torch.zeros(1, 2), torch.tensor([2.0]))
    half = rotate_shift(picture, torch.zeros(1), torch.zeros(1, 2), torch.tensor([0.5]))
    assert float(twice.sum() / picture.sum()) == pytest.approx(4, rel=0.02)
    assert float(half.sum() / picture.sum()) == pytest.approx(0.25, rel=0.02)
    assert torch.equal(twice[:, :, 10:22, 10:22], torch.ones(1, 3, 12, 12))
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    noise = SampleNoise(3, tuple("abcdef"))
    plain, zoomed = (SignStandard(zoom=zoom)(images, noise) for zoom in (0.0, 1e-6))
    torch.testing.assert_close(plain, zoomed, atol=1e-4, rtol=0)
    assert not torch.equal(SignStandard(zoom=0.3)(images, noise), plain)
