"""Why a system answers as it does: the nearest image that its network answers otherwise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recuse.arrays import Images
from recuse.attacks import Apgd
from recuse.composition import Cascade
from recuse.composition.deadline import before
from recuse.random import SampleNoise
from recuse.threat import Threat

# Far enough to leave most classes: half of all grey values, or the length of 16 images' worth.
_FARTHEST = {"linf": 0.5, "l2": 16.0}
_HALVINGS = 6
_ON_THE_LINE = 12


@dataclass(frozen=True, eq=False)
class Explanation:
    """The nearest other answer that a search found.

    Attributes:
        stage: Whose answer is explained: who answers the image, or where no stage selects it the
            first stage, which then stands aside because of such neighbours.
        label: Its class of the image.
        name: Its name.
        other_label: Its class of the neighbour; None where none was found.
        other_name: Its name; None where none was found.
        picture: The neighbour, ``(channels, height, width)`` in [0, 1]; the image itself where
            none was found.
        distance: Between the two, in the norm of the budget; None where none was found.
        budget: The attacker's ball.
        within: The neighbour lies in it: an attacker could show it instead.
    """

    stage: str
    label: int
    name: str
    other_label: int | None
    other_name: str | None
    picture: Tensor
    distance: float | None
    budget: str
    within: bool

    @property
    def sentence(self) -> str:
        """The explanation in words."""
        if self.distance is None:
            return (
                f"{self.stage} says {self.name}; no neighbour was found that it answers otherwise"
            )
        place = "inside" if self.within else "outside"
        return (
            f"{self.stage} says {self.name}; at a distance of {self.distance:.4g} ({place} of the "
            f"budget {self.budget}) it says {self.other_name}"
        )


@torch.no_grad()
def explain(
    cascade: Cascade,
    labels: Sequence[str],
    x: Images,
    *,
    noise: SampleNoise,
    end: float | None = None,
) -> Explanation:
    """Search the nearest image that the deciding network answers otherwise.

    Args:
        cascade: Who answers.
        labels: Names of the classes.
        x: One image, ``(1, channels, height, width)``.
        noise: Of the cascade and of the search.
        end: When to stop searching, in seconds of ``time.monotonic``.
    """
    answers = cascade.traced(x, noise=noise, end=end).prediction
    selected = bool(answers.selected[0]) or not cascade.stages
    index = int(answers.stage[0]) if selected else 0
    model, threat = cascade.models[index], cascade.budget
    with cascade.evaluating():
        label = int(model(x).argmax(1))
        found = None
        with before(end, model):
            for nearer in neighbours(model, x, threat, noise=noise.substream("explain")):
                found = nearer
        other = None if found is None else int(model(found).argmax(1))
    distance = None if found is None else float(threat.distance(found, x)[0])
    return Explanation(
        stage=cascade.names[index],
        label=label,
        name=labels[label],
        other_label=other,
        other_name=None if other is None else labels[other],
        picture=(x if found is None else found)[0].cpu(),
        distance=distance,
        budget=str(threat),
        within=distance is not None and distance <= threat.eps + 1e-6,
    )


def neighbours(
    model: nn.Module, x: Images, threat: Threat, *, noise: SampleNoise
) -> Iterator[Images]:
    """Points of another class, each nearer than the one before; none where an attack finds none.

    Balls grow from the budget until the attack succeeds, then shrink by halves; what was found is
    at last drawn towards ``x`` as far as its class allows.
    """
    attack, labels = Apgd(steps=20), model(x).argmax(1)
    low, high, best = 0.0, max(threat.eps, 1e-3), None
    while best is None and low < _FARTHEST[threat.norm]:
        high = min(high, _FARTHEST[threat.norm])
        best = _broken(attack, model, x, labels, threat.with_eps(high), noise)
        low, high = (low, high) if best is not None else (high, 2 * high)
    if best is None:
        return
    yield best
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = _broken(attack, model, x, labels, threat.with_eps(middle), noise)
        low, high = (middle, high) if found is None else (low, middle)
        if found is not None:
            best = found
            yield best
    yield _drawn_near(model, x, best, labels)


def _broken(
    attack: Apgd, model: nn.Module, x: Images, labels: Tensor, ball: Threat, noise: SampleNoise
) -> Images | None:
    outcome = attack(model, x, labels, ball, noise=noise)
    return outcome.x_adv if bool(outcome.success[0]) else None


def _drawn_near(model: nn.Module, x: Images, far: Images, labels: Tensor) -> Images:
    """The nearest point of another class on the line, to one part in 4096."""
    near, best = 0.0, 1.0
    for _ in range(_ON_THE_LINE):
        middle = (near + best) / 2
        changed = bool(model(x + middle * (far - x)).argmax(1) != labels)
        near, best = (near, middle) if changed else (middle, best)
    point: Images = x + best * (far - x)
    return point if bool(model(point).argmax(1) != labels) else far


__all__ = ["Explanation", "explain", "neighbours"]
