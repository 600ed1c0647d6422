"""Systems that were attacked as a whole, as a pool to choose from by what the adversary left."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from recuse.analysis.accounting import CoreVerdicts, StageVerdicts
from recuse.analysis.adversaries import ADAPTIVE
from recuse.analysis.cascade_pool import Pool, networks_of, pool_of
from recuse.analysis.comparable import same_question
from recuse.analysis.verdicts import Mask, Verdicts, verdicts
from recuse.errors import RecordError
from recuse.records.schema import Record


def attacked_pool(
    records: Sequence[Record],
    attacks: Sequence[Record],
    *,
    dataset: str,
    eps: str,
    core: str | None = None,
) -> Pool:
    """Every system whose attack is at hand; no stage answers by itself here.

    Several attacks on one system count together, on the samples that all systems share.

    Args:
        records: Of the networks, for the core and for each network alone.
        attacks: On whole systems.
        dataset: ``"cifar10"`` or ``"cifar10/test"``.
        eps: The attacker's radius.
        core: Name of the core.

    Raises:
        RecordError: No attack at this radius, or no sample that all of them met.
    """
    networks = networks_of(records, dataset, attacks)
    base = pool_of(networks, eps=eps, core=core)
    judged = next(v for v in networks if v.meta.model == base.core_name)
    systems: dict[str, list[Verdicts]] = {}
    for found in map(verdicts, attacks):
        of_system = found.meta.method == ADAPTIVE and found.labelled
        if of_system and found.has("robust", eps) and same_question(found, judged):
            systems.setdefault(system_name(found), []).append(found)
    if not systems:
        raise RecordError(f"no system was attacked at {eps} here; recuse attack does it")
    everyone = (set(v.ids) for met in systems.values() for v in met)
    shared = set(judged.ids).intersection(*everyone)
    if not shared:
        raise RecordError(f"the {len(systems)} attacked systems share no sample; attack the same")
    kept = np.array([sample in shared for sample in judged.ids])
    return replace(
        base,
        stages=tuple(_alone(stage, kept) for stage in base.stages),
        core=CoreVerdicts(base.core.accurate[kept], base.core.robust[kept]),
        mixtures=tuple((name, _left(met, shared, eps)) for name, met in systems.items()),
        count="attacked",
    )


def system_name(found: Verdicts) -> str:
    """Members and selectors of an attacked system, as a person would type them."""
    meta = found.meta
    selectors = (
        f"{s['kind']}({', '.join(f'{k}={s[k]}' for k in ('threshold', 'radius') if s.get(k))})"
        for s in meta.settings.get("selectors", [])
    )
    mixtures = (f"{m['alpha']:g}" for m in meta.settings.get("mixtures", []) if m)
    return ": ".join(filter(None, (meta.model, ", ".join((*selectors, *mixtures)))))


def _left(met: Sequence[Verdicts], shared: set[str], eps: str) -> CoreVerdicts:
    rows = [np.array([sample in shared for sample in v.ids]) for v in met]
    natural, left = met[0].accurate()[rows[0]], np.ones(len(shared), dtype=np.bool_)
    for found, kept in zip(met, rows, strict=True):
        left &= ~found.broken(eps)[kept]
    return CoreVerdicts(natural, natural & left)


def _alone(stage: StageVerdicts, kept: Mask) -> StageVerdicts:
    """A network that can only stand alone: as a stage it never answers."""
    nowhere = np.zeros(int(kept.sum()), dtype=np.bool_)
    return StageVerdicts(stage.accurate[kept], stage.robust[kept], nowhere, nowhere, ~nowhere)


__all__ = ["attacked_pool", "system_name"]
