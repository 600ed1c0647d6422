"""Networks that hide their gradient: none of them comes out as robust in silence."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from recuse.analysis.masking import masking_warning
from recuse.analysis.verdicts import verdicts
from recuse.attacks import (
    Apgd,
    MaskingCheck,
    RadiiOutcome,
    Square,
    StreamSettings,
    decide_stream,
)
from recuse.cli.show import print_summary
from recuse.data.split import Split
from recuse.evaluation import Evaluation, evaluate
from recuse.evaluation.masking import rechecked
from recuse.random import SampleNoise
from recuse.records.schema import Recheck
from recuse.results import AttackOutcome
from recuse.selectors import RobustMargin, RobustnessIndicator, RobustSoftmaxResponse
from recuse.threat import Threat

EPS = 0.1
BALL, SHORT = Threat("linf", EPS), Apgd(steps=5)


class Brightness(nn.Module):
    """Two classes by the mean grey value; every image of the test below can be pushed across."""

    def forward(self, x):
        margin = 20 * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-margin, margin], dim=1)


class Masked(nn.Module):
    """The same behind something that spoils the gradient."""

    def __init__(self, spoil):
        super().__init__()
        self.spoil, self.network = spoil, Brightness()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.network(self.spoil(x))


def eight_levels(x):
    return (x * 7).round() / 7


def jpeg(x):
    def again(image):
        pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
        file = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=90)
        read = np.asarray(Image.open(file)).copy()
        return torch.from_numpy(read).permute(2, 0, 1).float() / 255

    return torch.stack([again(image) for image in x])


def threshold(x):
    """A hard unit decides alone: its derivative is zero everywhere."""
    bright = (x.flatten(1).mean(1) > 0.5).float()
    return bright[:, None, None, None].expand_as(x) + 0 * x


def noise(x):
    return x + 0.2 * torch.randn_like(x)


def contrary(x):
    """The same unit with a slope, which leads away from it."""
    return threshold(x) - (x - x.detach())


BLIND = {"eight levels": eight_levels, "jpeg": jpeg, "threshold": threshold, "contrary": contrary}
MASKERS = BLIND | {"noise": noise}
SEARCHING = {
    "indicator": RobustnessIndicator(BALL, SHORT),
    "margin": RobustMargin(BALL, SHORT, 0.05),
    "softmax": RobustSoftmaxResponse(BALL, SHORT, 0.55),
}


def images(n=12):
    source = torch.Generator().manual_seed(0)
    level = torch.linspace(0.42, 0.55, n)[:, None, None, None]
    x = (level + 0.05 * torch.rand(n, 3, 8, 8, generator=source)).clamp(0, 1)
    labels = torch.arange(n) % 2
    return Split("maskers/test", x, labels, tuple(map(str, range(n))), ("dark", "bright"))


def judged(network, tmp_path, attack=None, eps=EPS):
    evaluation = Evaluation("linf", (eps,), attack or Apgd(steps=10))
    return evaluate(network.eval(), images(), evaluation, name="m", records=tmp_path)


def test_the_network_without_a_mask_is_broken_everywhere(tmp_path):
    record = judged(Masked(lambda x: x), tmp_path)
    assert record.frame[f"robust@{EPS}"].to_list() == [False] * 12
    assert masking_warning(verdicts(record)) == ""


@pytest.mark.parametrize("name", MASKERS)
def test_no_masker_is_robust_in_silence(name, tmp_path, capsys):
    record = judged(Masked(MASKERS[name]), tmp_path)
    found = verdicts(record)
    silent = found.robust(EPS)
    assert not silent.any() or masking_warning(found)
    print_summary([record])
    assert ("not judged" in capsys.readouterr().out) == found.not_judged(EPS).any()


@pytest.mark.parametrize("name", BLIND)
def test_without_a_gradient_nothing_is_robust(name, tmp_path):
    found = verdicts(judged(Masked(MASKERS[name]), tmp_path))
    assert not found.robust(EPS).any()
    assert (found.broken(EPS) | found.not_judged(EPS)).all()
    assert found.not_judged(EPS).any()


def test_a_network_that_answers_at_random_is_named(tmp_path, capsys):
    record = judged(Masked(noise), tmp_path, eps=0.001)
    found = verdicts(record)
    assert found.robust(0.001).any()
    assert "differently twice" in masking_warning(found)
    print_summary([record])
    assert "warning: m: of " in capsys.readouterr().out


@pytest.mark.parametrize("k", [1e-3, 1e2, 1e6])
def test_large_and_small_logits_hide_nothing(k, tmp_path):
    class Scaled(Masked):
        def forward(self, x):
            return k * super().forward(x)

    record = judged(Scaled(lambda x: x), tmp_path)
    assert record.frame[f"robust@{EPS}"].to_list() == [False] * 12


@pytest.mark.parametrize("kind", SEARCHING)
@pytest.mark.parametrize("name", BLIND)
def test_a_selector_selects_nothing_that_it_cannot_search(name, kind):
    split, selector = images(), SEARCHING[kind]
    score = selector(
        Masked(MASKERS[name]).eval(), split.images, noise=SampleNoise(0, split.ids, "select")
    )
    assert not (score >= selector.threshold).any()


@pytest.mark.parametrize("name", BLIND)
def test_a_stream_selects_nothing_that_it_cannot_search(name):
    split = images()
    pairs = zip(split.ids, split.images, strict=True)
    found = list(
        decide_stream(
            Masked(MASKERS[name]), pairs, BALL, attack=SHORT, settings=StreamSettings(slots=12)
        )
    )
    assert not any(decision.robust for decision in found)
    assert not all(decision.judged for decision in found)


def in_vain(model, x, y, threat, *, noise):
    """A search that finds nothing."""
    no, passes = torch.zeros_like(y, dtype=torch.bool), torch.zeros_like(y)
    return AttackOutcome(x, no, passes, passes)


@pytest.mark.parametrize(
    ("check", "sign"),
    [
        (MaskingCheck(few=SHORT, black=in_vain), Recheck.FEWER_STEPS),
        (MaskingCheck(few=in_vain, black=SHORT), Recheck.BLACK_BOX),
    ],
)
def test_what_the_second_look_breaks_is_broken_there_and_beyond(check, sign):
    split, network = images(), Masked(lambda x: x).eval()
    no = torch.zeros(12, dtype=torch.bool)
    yes, passes = ~no, torch.zeros(12, dtype=torch.int64)
    balls = tuple(Threat("linf", eps) for eps in (0.001, EPS, 0.2))
    first = RadiiOutcome(balls, (no, no, no), (yes, yes, no), (split.images,) * 3, passes, passes)
    again = split.ids[:6]
    found, columns = rechecked(
        network,
        split.images,
        network(split.images).argmax(1),
        first,
        split.ids,
        check=check,
        again=again,
        seed=0,
    )
    asked = torch.arange(12) < 6
    assert [m.tolist() for m in found.broken] == [m.tolist() for m in (no, asked, asked)]
    assert [m.tolist() for m in found.judged] == [m.tolist() for m in (yes, yes, asked)]
    assert columns["recheck"] == [sign] * 6 + [None] * 6
    assert not any(m.any() for m in first.broken)


@pytest.mark.parametrize("name", ["eight levels", "threshold"])
def test_a_search_without_gradients_breaks_what_the_gradient_could_not(name, tmp_path):
    record = judged(Masked(MASKERS[name]), tmp_path, Square(queries=300))
    assert verdicts(record).broken(EPS).mean() > 0.3
