"""Two networks mixed: fitted on one half of the images, judged on the other as systems."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from recuse.analysis.accounting import CoreVerdicts
from recuse.analysis.mechanism_pool import MIXTURE, ONE_HOT
from recuse.analysis.mixture_pool import mixtures_of
from recuse.attacks import Apgd, ProbabilityMargin
from recuse.attacks.verify import forward
from recuse.composition import AdaptiveAdversary, MixedNuts, Stage, fit_mixednuts
from recuse.data.split import Split
from recuse.errors import ConfigError
from recuse.evaluation.admission import admit
from recuse.evaluation.attack_cascade import CascadeAttack
from recuse.evaluation.evaluate import suitable_batch
from recuse.evaluation.placing import placed
from recuse.models.cards import Card
from recuse.models.mixture import mix
from recuse.modes import evaluation_mode
from recuse.progress import Progress
from recuse.random import SampleNoise
from recuse.selectors import Always
from recuse.systems.build import CHOOSING, Building, build, halves
from recuse.systems.choosing import OpenStage
from recuse.systems.inputs import InputForm
from recuse.systems.judging import STEPS, Judge
from recuse.systems.system import System
from recuse.threat import Threat

WEIGHTS = 40
Member = tuple[nn.Module, Card]


@dataclass(frozen=True, eq=False)
class Pair:
    """What is mixed, on which images, against whom.

    Attributes:
        robust: Robust network with its card, its outputs in the order of the data's classes.
        accurate: Accurate network, likewise.
        split: Images; one half fits and the other judges.
        budget: The attacker's ball.
        seed: Of the halves and of all searches.
    """

    robust: Member
    accurate: Member
    split: Split
    budget: Threat
    seed: int

    def mixed(self, name: str, **how: object) -> Member:
        """Both networks as one, its outputs in the order of the data's classes."""
        network, card = mix(name, self.robust, self.accurate, **how)  # type: ignore[arg-type]
        admitted = admit(network, card, self.split, allow_training_data=True)
        return admitted.network, admitted.card or card


def mixtures(
    pair: Pair, *, keep: float, loss: float, steps: int, run: Path, progress: Progress
) -> list[System]:
    """MixedNUTS and the best mixture of our own, each fitted on one half and built on the other.

    Args:
        pair: The networks and images.
        keep: Share of the robust network's answers that survive an attack and are to be kept.
        loss: Natural accuracy that our own mixture may lose against the accurate network.
        steps: Of the adversary of the whole, towards each goal.
        run: Run folder of all records; a rerun does what is missing.
        progress: Told after every batch.

    Raises:
        ConfigError: Nothing to fit on, or networks that cannot be mixed.
        DataError: Networks that do not fit the images.
    """
    choosing, _ = halves(pair.split, pair.seed)
    nuts = fitted(pair, choosing, keep)
    name, share = best_mixture(pair, choosing, loss, run / CHOOSING, progress)
    one_hot = name == ONE_HOT
    found = {
        "mixednuts": (
            pair.mixed("mixednuts", alpha=nuts.alpha, shaping=nuts.shaping, one_hot=True),
            f"scale {nuts.scale:g}, shift {nuts.shift:g}, power {nuts.power:g}, weight "
            f"{nuts.alpha:.6g} (the accurate network decides where the mapped margin is below "
            f"{1 / nuts.alpha - 1:.2g}), keeping {keep:g} of what an attack left",
        ),
        name: (
            pair.mixed(name, alpha=share, one_hot=one_hot),
            f"weight {share:g}, most sound within {100 * loss:g} points of the accurate network",
        ),
    }
    adversary = AdaptiveAdversary(steps=steps, attacks=(Apgd(),))
    how = Building(pair.budget, None, pair.seed, CascadeAttack(adversary, seed=pair.seed))
    return [
        _built(title, member, said, pair, how, run, progress)
        for title, (member, said) in found.items()
    ]


def fitted(pair: Pair, split: Split, keep: float) -> MixedNuts:
    """MixedNUTS' map and weight, from logits of the robust network.

    Attacked ones are those of the point of the ball with the smallest margin that was found, where
    the network is still right.

    Raises:
        ConfigError: It is right, or broken, everywhere.
    """
    network, attack = pair.robust[0], Apgd(steps=STEPS, loss=ProbabilityMargin())
    right, wrong = [], []
    with evaluation_mode(network):
        for part in split.batches(suitable_batch(split.shape)):
            x = placed(network, part.images, pair.robust[1].name)
            y = part.labels.to(x.device)
            noise = SampleNoise(pair.seed, part.ids, "mixednuts")
            worst = attack.maximise(network, x, y, pair.budget, noise=noise).x_adv
            clean, attacked = forward(network, x), forward(network, worst)
            right.append(attacked[attacked.argmax(1) == y].cpu())
            wrong.append(clean[clean.argmax(1) != y].cpu())
    survived, mistakes = torch.cat(right), torch.cat(wrong)
    if not len(survived) or not len(mistakes):
        raise ConfigError(
            f"MixedNUTS is fitted on answers that survive an attack within {pair.budget} and on "
            f"clean mistakes, but {pair.robust[1].name!r} has {len(survived)} and {len(mistakes)} "
            f"of these on {len(split)} images; give more images or another radius"
        )
    return fit_mixednuts(survived.double(), mistakes.double(), keep=keep)


def best_mixture(
    pair: Pair, split: Split, loss: float, run: Path, progress: Progress
) -> tuple[str, float]:
    """Kind and weight of the mixture with most sound robust images among those accurate enough."""
    judge = Judge(split, pair.budget, pair.seed, run, progress)
    robust = judge(pair.robust[0], pair.robust[1].name, worst=True)
    accurate = judge(pair.accurate[0], pair.accurate[1].name, role="core", worst=True)
    eps = pair.budget.radius
    found = mixtures_of("robust, accurate", robust, accurate, eps, (MIXTURE, ONE_HOT), WEIGHTS)
    floor = np.count_nonzero(accurate.accurate()) - loss * len(split)

    def worth(entry: tuple[str, CoreVerdicts]) -> tuple[bool, int, int]:
        natural, sound = (
            int(np.count_nonzero(column)) for column in (entry[1].accurate, entry[1].robust)
        )
        near = bool(natural >= floor - 1e-9)
        return (near, sound, natural) if near else (near, natural, sound)

    kind, _, rest = max(found, key=worth)[0].partition("(")
    return kind, float(rest.rstrip(")").rpartition(";")[2])


def _built(
    name: str, member: Member, said: str, pair: Pair, how: Building, run: Path, progress: Progress
) -> System:
    network, card = member
    channels, height, width = pair.split.shape
    system = build(
        [OpenStage(Stage(network, Always(), name, card), open=False)],
        None,
        pair.split,
        how,
        name=name,
        labels=card.label_names or pair.split.label_names,
        form=InputForm(channels, (height, width)),
        run=run,
        progress=progress,
    )
    return replace(system, chosen_on={**system.chosen_on, "fit": said})


__all__ = ["Pair", "best_mixture", "fitted", "mixtures"]
