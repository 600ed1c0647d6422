"""Systems that were attacked as a whole, as a pool to choose from by what the adversary left."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recuse.analysis.accounting import CoreVerdicts
from recuse.analysis.adversaries import ADAPTIVE
from recuse.analysis.cascade_pool import Pool, networks_of, pool_of
from recuse.analysis.comparable import same_question
from recuse.analysis.mechanisms import silent_stage
from recuse.analysis.verdicts import Verdicts, verdicts
from recuse.errors import RecordError
from recuse.radius import format_radius
from recuse.records.schema import Record

# How the selectors of a record are typed.
SELECTORS = {
    "RobustnessIndicator": "indicator",
    "NarrowIndicator": "narrow-indicator",
    "RobustMargin": "robust-margin",
    "SoftmaxResponse": "softmax",
    "RobustSoftmaxResponse": "robust-softmax",
    "EntropyResponse": "entropy",
    "SelectionNetwork": "network",
    "Always": "always",
}
Systems = dict[str, list[Verdicts]]
# The search of a deployed selector that names none.
USUAL_SEARCH = {
    "kind": "Apgd",
    "steps": 39,
    "loss": {"kind": "CrossEntropy"},
    "restarts": 1,
    "rho": 0.75,
}


def attacked_pool(
    records: Sequence[Record],
    attacks: Sequence[Record],
    *,
    dataset: str,
    eps: str,
    core: str | None = None,
    mechanisms: Sequence[str] = (),
) -> Pool:
    """Every system whose attack is at hand; no stage answers by itself here.

    Several attacks on one system count together, on the samples that all systems share.

    Args:
        records: Of the networks, for the core and for each network alone.
        attacks: On whole systems.
        dataset: ``"cifar10"`` or ``"cifar10/test"``.
        eps: The attacker's radius.
        core: Name of the core.
        mechanisms: Only systems of these alone; of any where none is named.

    Raises:
        RecordError: No attack at this radius or on such a system, or no sample that all met.
    """
    networks = networks_of(records, dataset, attacks)
    base = pool_of(networks, eps=eps, core=core)
    judged = next(v for v in networks if v.meta.model == base.core_name)
    systems: Systems = {}
    for found in map(verdicts, attacks):
        of_system = found.meta.method == ADAPTIVE and found.labelled
        if of_system and found.has("robust", eps) and same_question(found, judged):
            systems.setdefault(system_name(found, networks), []).append(found)
    if not systems:
        raise RecordError(f"no system was attacked at {eps} here; recuse attack does it")
    systems = _of(systems, mechanisms)
    everyone = (set(v.ids) for met in systems.values() for v in met)
    shared = set(judged.ids).intersection(*everyone)
    if not shared:
        raise RecordError(f"the {len(systems)} attacked systems share no sample; attack the same")
    kept = np.array([sample in shared for sample in judged.ids])
    return replace(
        base,
        stages=tuple(silent_stage(s.accurate[kept], s.robust[kept]) for s in base.stages),
        core=CoreVerdicts(base.core.accurate[kept], base.core.robust[kept]),
        mixtures=tuple((name, _left(met, shared, eps)) for name, met in systems.items()),
        count="attacked",
    )


def _of(systems: Systems, mechanisms: Sequence[str]) -> Systems:
    """Those that are made of these mechanisms alone."""
    known = {name: mechanisms_of(name) for name in systems}
    wanted = {name.replace("_", "-") for name in mechanisms} or set().union(*known.values())
    if kept := {name: met for name, met in systems.items() if known[name] <= wanted}:
        return kept
    there = ", ".join(sorted(set().union(*known.values())))
    raise RecordError(
        f"no system of {', '.join(sorted(wanted))} alone was attacked; the attacked ones are of: "
        f"{there}"
    )


def mechanisms_of(name: str) -> set[str]:
    """The mechanisms of a system, by how :func:`system_name` calls it.

    >>> mechanisms_of("era: softmax(threshold=0.7) → core")
    {'softmax'}
    """
    members = [member.partition(": ") for member in name.split(" → ")]
    mixed = {parts[0].partition("(")[0] for parts in members if "; " in parts[0]}
    behind = {parts[2].partition("(")[0] for parts in members if parts[2]}
    return (mixed | behind) - ({"always"} if mixed else set())


def system_name(found: Verdicts, networks: Sequence[Verdicts]) -> str:
    """Members behind their selectors, as a person would type them and a search names them.

    Args:
        found: An attack on a system.
        networks: Among them the members of mixtures, which the attack knows by their weights.
    """
    settings = found.meta.settings
    known = {network.meta.weights: network.meta.model for network in networks}
    selectors = [_selector(entry) for entry in settings.get("selectors", [])]
    mixtures = settings.get("mixtures") or [None] * (len(selectors) + 1)
    names = [
        _mixture(mixture, known) if mixture else name
        for name, mixture in zip(found.meta.model.split(" → "), mixtures, strict=False)
    ]
    stages = map(": ".join, zip(names, selectors, strict=False))
    return " → ".join((*stages, *names[len(selectors) :]))


def _selector(entry: Mapping[str, Any]) -> str:
    settings = [f"threshold={entry['threshold']!r}"] if "threshold" in entry else []
    if entry.get("radius"):
        settings.append(f"radius={format_radius(entry['radius'])}")
    if entry.get("attack", USUAL_SEARCH) != USUAL_SEARCH:
        settings.append(f"attack={_typed(entry['attack'])}")
    name = SELECTORS.get(entry["kind"], entry["kind"])
    return f"{name}({', '.join(settings)})" if settings else name


def _mixture(mixture: Mapping[str, Any], known: Mapping[str, str]) -> str:
    kind = "mixednuts" if mixture["map"] else "one-hot-mixture" if mixture["one_hot"] else "mixture"
    members = ", ".join(known.get(weights, weights[:8]) for weights in mixture["members"])
    return f"{kind}({members}; {', '.join(f'{n:g}' for n in (*mixture['map'], mixture['alpha']))})"


def _typed(value: Any) -> str:
    """JSON values of a config as text that is read again."""
    if isinstance(value, Mapping):
        name = re.sub(r"(?<!^)([A-Z])", r"_\1", value["kind"]).lower()
        return f"{name}({', '.join(f'{k}={_typed(v)}' for k, v in value.items() if k != 'kind')})"
    if isinstance(value, list):
        return f"[{', '.join(map(_typed, value))}]"
    return "none" if value is None else str(value).lower()


def _left(met: Sequence[Verdicts], shared: set[str], eps: str) -> CoreVerdicts:
    rows = [np.array([sample in shared for sample in v.ids]) for v in met]
    natural, left = met[0].accurate()[rows[0]], np.ones(len(shared), dtype=np.bool_)
    for found, kept in zip(met, rows, strict=True):
        left &= ~found.broken(eps)[kept]
    return CoreVerdicts(natural, natural & left)


__all__ = ["SELECTORS", "USUAL_SEARCH", "attacked_pool", "system_name"]
