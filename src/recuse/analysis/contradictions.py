"""What the sound accounting promised of systems that were then attacked as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recuse.analysis.accounting import Account, CoreVerdicts, StageVerdicts, sound_account
from recuse.analysis.adversaries import ADAPTIVE, members_of
from recuse.analysis.attacked_pool import SELECTORS, system_name
from recuse.analysis.bits import Numbers
from recuse.analysis.comparable import same_question
from recuse.analysis.compositions import core_of, stage_of
from recuse.analysis.mechanism_pool import SELECTING, sure_margin
from recuse.analysis.mechanisms import mixture_core, one_hot_mixture_core
from recuse.analysis.verdicts import Mask, Verdicts, verdicts
from recuse.errors import RecordError
from recuse.radius import parse_radius
from recuse.records.schema import Record


@dataclass(frozen=True, eq=False)
class Met:
    """A system that an adversary met, on the samples that it met.

    Attributes:
        name: Members and selectors.
        dataset: Of the samples.
        eps: The attacker's radius.
        adversary: What it is, by its settings.
        alone: Name, right and robust answers of each member by itself.
        promised: By the sound accounting, from attacks on each member by itself.
        natural: Right without an attack.
        survived: Right, and the adversary found no wrong answer.
    """

    name: str
    dataset: str
    eps: str
    adversary: str
    alone: tuple[tuple[str, Mask, Mask], ...]
    promised: Mask
    natural: Mask
    survived: Mask

    @property
    def contradictions(self) -> int:
        """Promises that the adversary broke."""
        return int(np.count_nonzero(self.promised & ~self.survived))


def met(attacks: Sequence[Record], networks: Sequence[Verdicts]) -> list[Met]:
    """Every attacked system whose members' records bound it.

    Args:
        attacks: On whole systems.
        networks: Judged by themselves. What the attacks broke must not have been taken from them,
            or nothing could contradict them.
    """
    found = [
        one
        for record in attacks
        if record.meta.method == ADAPTIVE
        for eps in record.meta.radii
        if (one := _met(verdicts(record), networks, eps)) is not None
    ]
    return sorted(found, key=lambda one: (parse_radius(one.eps), one.name))


def _met(attack: Verdicts, networks: Sequence[Verdicts], eps: str) -> Met | None:
    if not attack.labelled:
        return None
    # Of several records of a network, one with its worst probabilities there.
    known = {
        v.meta.weights: v
        for v in sorted(networks, key=lambda v: v.has("worst_margin", eps))
        if v.has("robust", eps) and v.labelled and same_question(attack, v)
    }
    try:
        account, members = _promise(attack, known, eps)
    except (KeyError, RecordError):  # a member, a bound or a column that is not at hand
        return None
    row = {sample: number for number, sample in enumerate(members[0].ids)}
    shared = np.array([sample in row for sample in attack.ids], dtype=np.bool_)
    rows = np.array([row[sample] for sample in attack.ids if sample in row], dtype=np.int64)
    left = attack.accurate() & ~attack.broken(eps)
    return Met(
        system_name(attack, networks),
        attack.meta.dataset,
        eps,
        _adversary(attack.meta.settings.get("adversary")),
        tuple(_alone(member, eps, rows) for member in members),
        account.robust[rows],
        attack.accurate()[shared],
        left[shared],
    )


def _adversary(settings: Any) -> str:
    """Its steps towards each goal and its aims, and the plain attacks before them."""
    if not isinstance(settings, dict):
        return str(settings or "")
    plain = (f"{a['kind']}-{a.get('steps', a.get('queries'))}" for a in settings["attacks"])
    aims = f", {settings['targets']} targets" if settings.get("targets") else ""
    starts = f", {settings['restarts']} starts" if settings["restarts"] > 1 else ""
    return f"{settings['steps']} steps{aims}{starts}; {' and '.join(plain).lower()}"


def _alone(model: Verdicts, eps: str, rows: Numbers) -> tuple[str, Mask, Mask]:
    right = model.accurate()[rows]
    return model.meta.model, right, right & model.robust(eps)[rows]


def _promise(
    attack: Verdicts, known: dict[str, Verdicts], eps: str
) -> tuple[Account, Sequence[Verdicts]]:
    settings, weights = attack.meta.settings, members_of(attack, list(known.values()))
    mixtures = [m for m in settings.get("mixtures", []) if m]
    if mixtures:
        (mixture,) = mixtures if len(weights) == 1 and not mixtures[0]["map"] else (None,)
        if mixture is None:
            raise KeyError("a mixture that records do not bound")
        robust, standard = (known[member] for member in mixture["members"])
        mixed = _mixed(mixture, robust, standard, eps)
        return Account(mixed.accurate, mixed.robust), [robust, standard]
    if not weights:
        raise KeyError("members that are not at hand")
    *stages, core = (known[member] for member in weights)
    if not all(core.ids.equals(stage.ids) for stage in stages):
        raise KeyError("members judged on other samples")
    counted = [
        _stage(stage, selector, eps)
        for stage, selector in zip(stages, settings["selectors"], strict=True)
    ]
    return sound_account(counted, core_of(core, eps)), [*stages, core]


def _mixed(mixture: dict[str, Any], robust: Verdicts, standard: Verdicts, eps: str) -> CoreVerdicts:
    margin, share = sure_margin(robust, eps), mixture["alpha"]
    if mixture["one_hot"]:
        core = core_of(standard, eps)
        return one_hot_mixture_core(core.accurate, margin, core, share=share)
    return mixture_core(standard.accurate(), margin, sure_margin(standard, eps), share=share)


def _stage(model: Verdicts, selector: dict[str, Any], eps: str) -> StageVerdicts:
    radius = selector.get("radius")
    if radius is not None and parse_radius(radius) != parse_radius(eps):
        raise KeyError("a selector of another radius")
    if selector["kind"] == "RobustnessIndicator":
        return stage_of(model, eps)
    selecting = SELECTING[SELECTORS[selector["kind"]]]
    return selecting.behind(model, eps)(threshold=selector["threshold"])


__all__ = ["Met", "met"]
