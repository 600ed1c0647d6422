"""MixedNUTS' map: equal to its authors' fit, and what its mixture promises."""

import numpy as np
import pytest
import torch

from recuse.analysis.accounting import CoreVerdicts
from recuse.analysis.mechanisms import one_hot_mixture_core
from recuse.composition import MixedNutsMap, fit_mixednuts
from recuse.errors import ConfigError


def test_the_fit_is_the_published_one(shared_reference):
    kept = np.load(shared_reference / "mixednuts_golden.npz")
    grid = {name: kept[name] for name in ("scales", "shifts", "powers")}
    logits = kept["attacked_right"], kept["clean_wrong"]
    keep = float(kept["beta"]) / 100
    found = fit_mixednuts(*logits, keep=keep, **grid)
    numbers = (found.scale, found.shift, found.power, found.alpha, found.objective)
    np.testing.assert_allclose(numbers, kept["best"], rtol=0, atol=1e-9)
    corners = [(0, 0, 0), (1, 7, 7), (2, 7, 7), (3, 7, 4), (5, 6, 2), (7, 7, 7), (4, 4, 4)]
    for corner in corners:
        one = {name: [kept[name][i]] for name, i in zip(grid, corner, strict=True)}
        found = fit_mixednuts(*logits, keep=keep, **one)
        assert abs(found.objective - kept["objective"][corner]) < 1e-9
        assert abs(1 / found.alpha - 1 - kept["cutoff"][corner]) < 1e-9


def normal_rows(n, seed, classes=5):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(n, classes, dtype=torch.float64, generator=source)


def test_the_map_keeps_the_answer_and_does_not_see_temperature():
    logits, shape = normal_rows(200, 0), MixedNutsMap(scale=2.0, shift=0.5, power=3.0)
    assert torch.equal(shape(logits).argmax(1), logits.argmax(1))
    torch.testing.assert_close(shape(3 * logits + 1), shape(logits), rtol=1e-6, atol=1e-6)
    point = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(shape(point).sum(), point)
    assert bool(grad.isfinite().all())


def test_of_many_classes_the_likeliest_set_the_scale():
    logits = normal_rows(20, 1, classes=400)
    shape = MixedNutsMap(scale=1.0, shift=0.0, power=1.0)
    lowest = logits.argsort(dim=1)[:, :150]
    lower = logits.scatter_add(1, lowest, torch.full_like(logits, -50.0))
    top = logits.argmax(1, keepdim=True)
    torch.testing.assert_close(shape(lower).gather(1, top), shape(logits).gather(1, top))


def test_the_mixture_is_decided_by_the_margin_over_the_other_answer(linear_models):
    """The robust answer holds unless the other one wins by its weight: the sound count's rule."""
    robust, standard = (linear_models.random_linear(seed, classes=4) for seed in (0, 1))
    x = torch.rand(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    logits = robust(x).detach()
    nuts = fit_mixednuts(
        logits[:200], logits[200:], keep=0.8, scales=[1.0, 4.0], shifts=[0.0], powers=[1.0, 2.0]
    )
    answer = nuts.mixture(robust, standard)(x).argmax(1)
    p = nuts.map(logits).softmax(1)
    first, other = p.argmax(1), standard(x).argmax(1)
    over = p.gather(1, first[:, None]) - p.gather(1, other[:, None])
    stays = (over[:, 0] >= (1 - nuts.alpha) / nuts.alpha) | (first == other)
    assert 0 < int(stays.sum()) < 400
    assert torch.equal(answer, torch.where(stays, first, other))
    margin = p.gather(1, first[:, None])[:, 0] - p.scatter(1, first[:, None], 0).amax(1)
    same = (other == first).numpy()
    bound = one_hot_mixture_core(
        np.ones(400, dtype=bool), margin.numpy(), CoreVerdicts(same, same), share=nuts.alpha
    )
    assert 0 < bound.robust.sum() < 400
    assert (answer == first).numpy()[bound.robust].all()


def test_a_map_that_changes_the_answers_of_a_weak_network_is_not_taken():
    """A far shift sends the weak network's top logit below the others: sure, and another answer."""
    right, wrong = normal_rows(300, 3, classes=10), normal_rows(200, 4, classes=10)
    far = MixedNutsMap(scale=20.0, shift=-2.5, power=1.0)
    assert (far(right).argmax(1) != right.argmax(1)).double().mean() > 0.5
    for keep in (0.98, 0.6):
        found = fit_mixednuts(right, wrong, keep=keep, shifts=[-2.5, -0.25, 0.0])
        assert torch.equal(found.map(right).argmax(1), right.argmax(1))
    only = fit_mixednuts(right, wrong, keep=0.9, shifts=[-2.5, -2.4])
    assert only.shift == -2.4


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda z: MixedNutsMap(scale=0.0, shift=0.0, power=1.0), "positive scale"),
        (lambda z: fit_mixednuts(z, z[:, :3], keep=0.9), "same classes"),
        (lambda z: fit_mixednuts(z[:0], z, keep=0.9), "at least one input of each kind"),
        (lambda z: fit_mixednuts(z, z, keep=1.5), r"1.5 to keep is not in \(0, 1\]"),
        (lambda z: fit_mixednuts(z, z, keep=0.9, scales=[]), "grid is empty"),
    ],
)
def test_misfits_are_one_sentence(build, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(normal_rows(6, 0))
