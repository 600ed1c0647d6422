"""One judgement over several radii: the clean pass shared, ascending, broken inputs carried.

What is adversarial at a radius is adversarial at every larger one, so that an input that broke is
not attacked again and the verdicts are monotone by construction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from recuse.arrays import Counts, Images, Labels, Logits, Mask
from recuse.attacks.criteria import LabelChanged
from recuse.attacks.search import clean_pass
from recuse.attacks.verify import evaluation_mode
from recuse.errors import ConfigError
from recuse.protocols import Attack, Criterion
from recuse.random import SampleNoise
from recuse.threat import Threat


@dataclass(frozen=True)
class RadiiOutcome:
    """What an attack found at each of several radii, ascending.

    Attributes:
        threats: The balls, ascending.
        broken: Per ball, which inputs have an adversarial point in it; never shrinks.
        judged: Per ball, the inputs of which something is known: broken, or searched in it or in
            a larger ball without success.
        x_adv: Per ball, one point per input: the adversarial one of the smallest ball that has
            one, else the best point found in this ball.
        forwards: Forward passes spent per input, over all balls.
        backwards: Backward passes to the input spent per input, over all balls.
    """

    threats: tuple[Threat, ...]
    broken: tuple[Mask, ...]
    judged: tuple[Mask, ...]
    x_adv: tuple[Images, ...]
    forwards: Counts
    backwards: Counts


def check_ascending(threats: Sequence[Threat]) -> tuple[Threat, ...]:
    """The threats as a tuple.

    Raises:
        ConfigError: None, different norms, or radii that do not ascend.
    """
    if not threats:
        raise ConfigError("no radius to attack at; give at least one, for example linf:2/255")
    if any(a.norm != b.norm or a.eps >= b.eps for a, b in pairwise(threats)):
        listed = ", ".join(map(str, threats))
        raise ConfigError(f"radii must ascend within one norm, got {listed}")
    return tuple(threats)


def attack_radii(
    model: nn.Module,
    x: Images,
    y: Labels,
    threats: Sequence[Threat],
    attack: Attack,
    *,
    noise: SampleNoise,
    criterion: Criterion | None = None,
    clean_logits: Logits | None = None,
) -> RadiiOutcome:
    """Attack a batch at ascending radii, each radius only where no smaller one broke.

    Args:
        model: The classifier.
        x: Inputs.
        y: Reference labels.
        threats: Balls of one norm, radii ascending.
        attack: Run once per radius.
        noise: Its random starts; every radius draws a stream of its own.
        criterion: What counts as adversarial; by default a label other than ``y``.
        clean_logits: Logits at ``x`` where the caller has them; computed once if not.

    Returns:
        Verdicts per radius and the passes of all radii together.

    Raises:
        ConfigError: The threats do not ascend within one norm.
    """
    threats = check_ascending(threats)
    with evaluation_mode(model):
        logits, spent = clean_pass(model, x, clean_logits)
    found = (criterion or LabelChanged())(x, logits, y)
    forwards = torch.full_like(y, spent, dtype=torch.int64)
    backwards = torch.zeros_like(forwards)
    points, broken, searched, x_adv = x.detach(), [], [], []
    for threat in threats:
        rows = (~found).nonzero().squeeze(1)
        found, points, judged = found.clone(), points.clone(), found.clone()
        if len(rows):
            outcome = attack(
                model,
                x[rows],
                y[rows],
                threat,
                noise=noise.take(rows.tolist()).substream(threat),
                criterion=criterion,
                clean_logits=logits[rows],
            )
            found[rows], points[rows] = outcome.success, outcome.x_adv
            judged[rows] = outcome.judged
            forwards[rows] += outcome.forwards
            backwards[rows] += outcome.backwards
        broken.append(found)
        searched.append(judged)
        x_adv.append(points)
    judged_in = _carried_inward(broken, searched)
    return RadiiOutcome(threats, tuple(broken), judged_in, tuple(x_adv), forwards, backwards)


def _carried_inward(broken: Sequence[Mask], searched: Sequence[Mask]) -> tuple[Mask, ...]:
    """What was judged in each ball; a search of a larger ball without success covers it too."""
    found = [searched[-1]]
    for hit, judged in zip(reversed(broken[1:]), reversed(searched[:-1]), strict=True):
        found.append(judged | (found[-1] & ~hit))
    return tuple(reversed(found))


__all__ = ["RadiiOutcome", "attack_radii", "check_ascending"]
