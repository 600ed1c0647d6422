"""The certified indicator: both readings of robust selection, and that answers cannot change."""

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from recuse.certify import Cohen, GroupSequential, Ibp, needed_radius
from recuse.certify.power import even_chance
from recuse.certify.tables import needed_probability
from recuse.composition.cascade import Cascade
from recuse.composition.members import Core, Stage
from recuse.errors import CertificationError, ConfigError
from recuse.random import SampleNoise
from recuse.results import Guarantee
from recuse.selectors.certified import CertifiedIndicator
from recuse.selectors.scores import BudgetedSelector
from recuse.threat import Threat

BUDGET = Threat("l2", 0.12)
TEST = GroupSequential(0.12, n_max=5000)


class HalfSpace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1).sum(dim=1) / 4 - 1.0
        return torch.stack([-score, score], dim=1)


def line(distances):
    x = ((torch.tensor(distances) + 1) / 4).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return HalfSpace().eval(), x, SampleNoise(0, tuple(f"p{d}" for d in distances))


def test_paper_and_sound_selection_are_the_two_radii():
    model, x, noise = line([-0.35, -0.18, 0.05, 0.18, 0.35])
    found = CertifiedIndicator(BUDGET, TEST).selection(model, x, noise=noise)
    assert found.radius == needed_radius(TEST, 0.12, classes=2) > 0.24
    assert found.paper.tolist() == [True, True, False, True, True]
    assert found.sound.tolist() == [True, False, False, False, True]
    assert found.sound_attainable
    wide = CertifiedIndicator(BUDGET, TEST, radius=0.16).selection(model, x, noise=noise)
    assert wide.sound.tolist() == [True, False, False, False, True]


def test_sound_selection_that_no_budget_proves_says_so():
    model, x, noise = line([0.6])
    found = CertifiedIndicator(Threat("l2", 0.25), TEST).selection(model, x, noise=noise)
    assert found.paper.all()
    assert not found.sound.any()
    assert not found.sound_attainable


def test_soundly_selected_inputs_are_selected_wherever_an_attacker_moves_them():
    model, x, noise = line([0.3, 0.3, 0.3])
    selector = CertifiedIndicator(BUDGET, TEST)
    assert selector.selection(model, x, noise=noise).sound.all()
    # Straight to the boundary, away from it, and sideways.
    step = torch.full((16,), -0.25)
    aside = torch.zeros(16)
    aside[0], aside[1] = 0.5**0.5, -(0.5**0.5)
    moved = x + 0.12 * torch.stack([step, -step, aside]).view(3, 1, 4, 4)
    assert (selector(model, moved, noise=noise) >= selector.threshold).all()


def test_score_is_the_certified_radius_and_the_threshold_selects_it():
    model, x, noise = line([0.05, 0.2])
    selector = CertifiedIndicator(BUDGET, TEST)
    score = selector(model, x, noise=noise)
    assert score.tolist() == [0.0, 0.12]
    assert selector.threshold == 0.12
    assert selector.guarantee is Guarantee.CERTIFIED
    assert isinstance(selector, BudgetedSelector)
    assert [ball.radius for ball in selector.reach.ascending] == ["0.12", "0.24"]


class Odd(nn.Module):
    """Answers 1 exactly at the centre of a region where everything else is 0."""

    def forward(self, x: Tensor) -> Tensor:
        odd = (x.flatten(1) == 0.5).all(dim=1)
        return torch.stack([~odd, odd], dim=1).float()


def test_the_certified_class_answers_and_not_the_networks_own():
    x, noise = torch.full((1, 1, 4, 4), 0.5), SampleNoise(0, ("a",))
    odd, selector = Odd().eval(), CertifiedIndicator(BUDGET, TEST)
    assert odd(x).argmax(1).tolist() == [1]
    logits, scores = selector.answer(odd, x, noise=noise)
    assert logits.argmax(1).tolist() == [0]
    assert scores.tolist() == selector(odd, x, noise=noise).tolist() == [0.12]
    assert selector.selection(odd, x, noise=noise).paper.tolist() == [True]
    cascade = Cascade((Stage(odd, selector),), Core(odd), BUDGET)
    answers = cascade(x, noise=noise)
    # An attacker who moves the network's own answer changes nothing that the stage says.
    assert (answers.stage.tolist(), answers.label.tolist()) == ([0], [0])


def test_deployed_noise_is_fresh_and_measured_noise_is_keyed():
    """At the edge of what the votes prove, chance decides: anew in use, never in a measurement."""
    test = GroupSequential(0.12, n_max=600)
    edge = 0.12 * stats.norm.ppf(even_chance(test, 0.12, 2))
    model, x, _ = line([edge] * 40)
    stage = Stage(model, CertifiedIndicator(BUDGET, test))
    cascade = Cascade((stage,), Core(model), BUDGET)
    keyed = SampleNoise(0, tuple(str(i) for i in range(40)))
    first, again = (cascade(x, noise=keyed).stage for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(cascade(x).stage, cascade(x).stage)


def test_the_surrogate_of_votes_is_the_share_that_is_accepted_and_not_the_null():
    test = GroupSequential(0.12, n_max=600)
    even = even_chance(test, 0.12, 2)
    assert even - 0.02 > needed_probability(0.12, 0.12)
    model, x, noise = line([0.12 * stats.norm.ppf(p) for p in (even - 0.01, even + 0.01)])
    selector, labels = CertifiedIndicator(BUDGET, test, draws=20_000), torch.ones(2).long()
    assert (selector.surrogate(model, x, labels, noise=noise) > 0).tolist() == [False, True]


def test_interval_bounds_select_deterministically():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-0.25], [0.25]]).expand(2, 4))
        model[1].bias.copy_(torch.tensor([0.5, -0.5]))
    x = torch.tensor([0.5, 0.53, 0.57]).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    noise = SampleNoise(0, ("a", "b", "c"))
    found = CertifiedIndicator(Threat("linf", 0.02), Ibp()).selection(model, x, noise=noise)
    assert found.paper.tolist() == [False, True, True]
    assert found.sound.tolist() == [False, False, True]


def test_a_cascade_answers_with_a_certificate_behind_it():
    model, x, noise = line([0.05, 0.3])
    stage = Stage(model, CertifiedIndicator(BUDGET, TEST), name="certified")
    cascade = Cascade((stage,), Core(model), BUDGET)
    answers = cascade(x, noise=noise)
    assert answers.stage.tolist() == [1, 0]
    assert answers.guarantee[0] is Guarantee.CERTIFIED
    # Images in single precision, in which 0.12 is less and 0.1 more than it is.
    assert answers.score[1].item() == 0.12


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(CertificationError, match="norm"):
        CertifiedIndicator(Threat("linf", "1/255"), TEST)
    with pytest.raises(CertificationError, match="norm"):
        CertifiedIndicator(BUDGET, Ibp())
    with pytest.raises(ConfigError, match="smaller than the attacker"):
        CertifiedIndicator(BUDGET, Cohen(0.12), radius=0.06)


def test_a_selector_of_radius_zero_is_refused_and_one_of_a_budget_of_zero_is_not():
    # Not proven is a score of 0, which a threshold of 0 would select.
    for radius in (None, 0.0):
        with pytest.raises(ConfigError, match="radius 0 has nothing to prove"):
            CertifiedIndicator(Threat("l2", 0.0), TEST, radius)
    model, x, noise = line([0.0, 0.3])
    scores = CertifiedIndicator(Threat("l2", 0.0), TEST, 0.12)(model, x, noise=noise)
    assert (scores >= 0.12).tolist() == [False, True]
