"""Objectives of abstention training: a robust loss, and a penalty on being robustly inaccurate."""

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.attacks.pgd import Pgd
from recuse.errors import ConfigError
from recuse.losses import (
    cross_entropy,
    dga_penalty,
    dga_penalty_separate,
    era_penalty,
    runner_up,
)
from recuse.random import SampleNoise
from recuse.results import LossTerms
from recuse.threat import Threat
from recuse.training.adversarial import Trades
from recuse.training.forward import (
    BatchNorm,
    attack_view,
    deployed_logits,
    loss_logits,
    same_as_deployed,
)
from recuse.training.robust import (
    NO_NOISE,
    Ascent,
    Pair,
    RobustLoss,
    StepCounter,
    attack_pair,
    terms_of,
    towards_another_class,
)
from recuse.training.schedule import Ramp


def blended(
    robust: LossTerms, penalty: PerSample, *, beta: float, penalty_weight: float
) -> LossTerms:
    """From the robust loss alone (weight 0) to ``beta * robust + penalty`` (weight 1)."""
    factor = 1 - penalty_weight + penalty_weight * beta
    total = factor * robust.total + penalty_weight * penalty
    weighted = robust.weighted
    if weighted is not None:
        weighted = replace(weighted, share=factor * weighted.share)
    parts = {"robust": robust.total.detach(), "penalty": penalty.detach()}
    return LossTerms(total, parts, weighted=weighted)


def check_beta(beta: float) -> None:
    """Refuse a weight that would reward the robust loss.

    Raises:
        ConfigError: ``beta`` negative or not finite.
    """
    if not (beta >= 0 and math.isfinite(beta)):
        raise ConfigError(f"beta is {beta}; the robust loss needs a finite weight of 0 or more")


def shared_pair(
    attack: Pgd,
    batch_norm: BatchNorm,
    model: nn.Module,
    x: Images,
    y: Labels,
    threat: Threat,
    noise: SampleNoise,
    progress: float,
) -> Pair:
    """Clean and adversarial logits of one untargeted attack on F(x), which serves both terms."""
    return attack_pair(
        model,
        x,
        y,
        threat,
        attack=attack,
        start=attack.begin(x, threat, noise.substream("attack")),
        ascent=towards_another_class,
        batch_norm=batch_norm,
        progress=progress,
    )


@dataclass(frozen=True)
class Era:
    """ERA with one shared adversarial example: robust where right, movable where wrong.

    Attributes:
        beta: Weight of the robust loss; smaller values abstain more.
        robust: Any robust loss.
        attack: PGD on the predicted label, whose last iterate serves both terms.
        hard: Penalise by the indicator F(x) != y instead of the soft miss.
        detach: Treat the soft miss as a constant.
        batch_norm: ``"eval"`` for fine-tuning, as the original does; ``"train"`` from scratch.
        ramp: When the penalty fades in; for training from scratch.

    Source: "Avoiding Robust Misclassifications for Improved Robustness without Accuracy Loss",
    Eq. 5 and 8.
    """

    beta: float = 1.0
    robust: RobustLoss = Trades()
    attack: Pgd = Pgd()
    hard: bool = False
    detach: bool = False
    batch_norm: BatchNorm = "eval"
    ramp: Ramp = Ramp()

    def __post_init__(self) -> None:
        check_beta(self.beta)

    def __call__(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        threat: Threat,
        *,
        noise: SampleNoise,
        progress: float = 1.0,
    ) -> LossTerms:
        """``beta * L_rob + (1 - p(x)_y) * CE(f(x_adv), c*)``."""
        pair = shared_pair(self.attack, self.batch_norm, model, x, y, threat, noise, progress)
        penalty = era_penalty(pair.logits, pair.logits_adv, y, hard=self.hard, detach=self.detach)
        robust, weight = terms_of(self.robust, pair), self.ramp(progress)
        terms = blended(robust, penalty, beta=self.beta, penalty_weight=weight)
        return replace(terms, correct=pair.correct)


@dataclass(frozen=True)
class LiteralEra:
    """ERA to the letter of Eq. 5: each term gets the adversarial example that is its own extreme.

    The robust loss is taken at the point its own attack finds, the penalty at the point closest
    to another class. Costs two attacks. Attributes as in :class:`Era`; ``robust_attack`` is that
    of the robust loss, ``attack`` that of the penalty, which sees the ball of ``reach`` times the
    threat's radius: an indicator of radius rho is sound where answers do not change within
    rho + eps, so that wrong answers are to change within that.
    """

    beta: float = 1.0
    robust: RobustLoss = Trades()
    robust_attack: Pgd = Pgd()
    attack: Pgd = Pgd()
    hard: bool = False
    detach: bool = False
    batch_norm: BatchNorm = "eval"
    ramp: Ramp = Ramp()
    reach: float = 1.0

    def __post_init__(self) -> None:
        check_beta(self.beta)
        if not self.reach > 0:
            raise ConfigError(f"reach is {self.reach}; give a multiple of the radius above 0")

    def __call__(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        threat: Threat,
        *,
        noise: SampleNoise,
        progress: float = 1.0,
    ) -> LossTerms:
        """``beta * L_rob(x, x_rob) + (1 - p(x)_y) * CE(f(x_pen), c*)``."""
        robust_pair, leaving = self._pairs(model, x, y, threat, noise, progress)
        penalty = era_penalty(
            leaving.logits, leaving.logits_adv, y, hard=self.hard, detach=self.detach
        )
        robust, weight = terms_of(self.robust, robust_pair), self.ramp(progress)
        terms = blended(robust, penalty, beta=self.beta, penalty_weight=weight)
        return replace(terms, correct=leaving.correct)

    def _pairs(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        threat: Threat,
        noise: SampleNoise,
        progress: float,
    ) -> tuple[Pair, Pair]:
        mode, first, attack = self.batch_norm, self.robust_attack, self.attack
        shared = loss_logits(model, x, mode) if same_as_deployed(model, mode) else None
        with attack_view(model) as attacked:
            clean = deployed_logits(attacked, x) if shared is None else shared.detach()
            counter = StepCounter(self.robust.ascent(clean, y), y)
            begin = self.robust.start(x, threat, first, noise.substream("attack"))
            x_rob = first.perturb(attacked, x, threat, counter, noise=NO_NOISE, start=begin)
            reached = threat.scaled(self.reach)
            begin = attack.begin(x, reached, noise.substream("penalty"))
            x_pen = attack.perturb(
                attacked, x, reached, away_from_prediction(clean), noise=NO_NOISE, start=begin
            )
        inputs = [x, x_rob, x_pen] if shared is None else [x_rob, x_pen]
        outputs = loss_logits(model, torch.cat(inputs), mode).chunk(len(inputs))
        logits = outputs[0] if shared is None else shared
        return (
            Pair(logits, outputs[-2], y, counter.kappa, first.steps, progress),
            Pair(logits, outputs[-1], y, counter.kappa, attack.steps, progress),
        )


def away_from_prediction(clean: Logits) -> Ascent:
    """What the penalty's own attack ascends: ``-CE(f(x'), c*)``, c* chosen anew at each point."""
    prediction = clean.argmax(dim=1)
    return lambda logits: -cross_entropy(logits, runner_up(logits, prediction))


@dataclass(frozen=True)
class Dga:
    """Deep-gamblers abstention: a robust loss and a bet on being right or easy to move.

    Attributes:
        beta: Weight of the robust loss.
        robust: Any robust loss.
        attack: PGD on the predicted label, whose last iterate serves both terms.
        separate: Eq. 20 to the letter: label and neighbour are normalised separately, instead
            of jointly as in the original code.
        batch_norm: Statistics used by batch norm in the loss forwards.
        ramp: When the penalty fades in; for training from scratch.

    Source: Eq. 20 of the ERA paper (appendix A.3).
    """

    beta: float = 1.0
    robust: RobustLoss = Trades()
    attack: Pgd = Pgd()
    separate: bool = False
    batch_norm: BatchNorm = "eval"
    ramp: Ramp = Ramp()

    def __post_init__(self) -> None:
        check_beta(self.beta)

    def __call__(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        threat: Threat,
        *,
        noise: SampleNoise,
        progress: float = 1.0,
    ) -> LossTerms:
        """``beta * L_rob - log(q_y + q_a)``."""
        pair = shared_pair(self.attack, self.batch_norm, model, x, y, threat, noise, progress)
        bet = dga_penalty_separate if self.separate else dga_penalty
        penalty = bet(pair.logits, pair.logits_adv, y)
        robust, weight = terms_of(self.robust, pair), self.ramp(progress)
        terms = blended(robust, penalty, beta=self.beta, penalty_weight=weight)
        return replace(terms, correct=pair.correct)


__all__ = [
    "Dga",
    "Era",
    "LiteralEra",
    "away_from_prediction",
    "blended",
    "check_beta",
    "shared_pair",
]
