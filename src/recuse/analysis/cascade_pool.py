"""The models a cascade may be built from: one stage each, comparable, in front of one core."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recuse.analysis.accounting import Core, Stage
from recuse.analysis.mechanisms import indicator_stage
from recuse.analysis.verdicts import (
    Mask,
    Verdicts,
    add_radii,
    by_model,
    check_comparable,
    verdicts,
)
from recuse.errors import RecordError
from recuse.radius import format_radius, parse_radius
from recuse.records.schema import Record

# Losses of models trained for natural accuracy alone: what a core is.
NATURAL_LOSSES = frozenset({"std", "standard", "wstd"})


@dataclass(frozen=True)
class Pool:
    """Stages and core judged on the same samples by the same attacks.

    Attributes:
        dataset: Data set and split.
        norm: Norm of the threat.
        eps: The attacker's radius, and the radius of every stage's robustness indicator.
        names: One a stage.
        stages: Verdicts, aligned with ``names``.
        core_name: The model that always answers.
        core: Its verdicts.
        left_out: Models of this data that cannot be a stage, and why.
    """

    dataset: str
    norm: str
    eps: str
    names: tuple[str, ...]
    stages: tuple[Stage, ...]
    core_name: str
    core: Core
    left_out: tuple[tuple[str, str], ...]

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.core.accurate.size)


def build_pool(
    records: Sequence[Record], *, dataset: str, eps: str, core: str | None = None
) -> Pool:
    """Every model of a data set that was judged at eps and twice eps, and a core.

    The core is ``core``, or the most accurate among the models tagged as a core or trained
    with a standard loss. A pool compares like with like: verdicts come from the attacks that
    judged the core, point by point the worst where there are several; an attack on the
    confidence answers another question and is left aside.

    Args:
        records: Of any data sets and attacks.
        dataset: ``"cifar10"`` or ``"cifar10/test"``.
        eps: The attacker's radius.
        core: Name of the core.

    Raises:
        RecordError: No record of the data set or radius, no core, no stage, mixed norms, or
            models judged on different samples.
    """
    here = [r for r in records if dataset in (r.meta.dataset, r.meta.dataset.partition("/")[0])]
    if not here:
        known = ", ".join(sorted({r.meta.dataset for r in records})) or "none"
        raise RecordError(f"no record of data set {dataset!r}; there are: {known}")
    attacked = [verdicts(r) for r in here if _answers_robustness(r)]
    judged = [v for v in attacked if v.has("robust", eps)]
    if not judged:
        radii = sorted({r for v in attacked for r in v.judged()}, key=parse_radius)
        raise RecordError(
            f"no model of {dataset} was judged at {eps}; judged: {', '.join(radii) or 'none'}"
        )
    models = by_model(judged)
    core_name = _core_name(models, core)
    attacks = {v.meta.search: v.meta.attack for v in models[core_name]}
    return _pool(models, core_name, attacks, format_radius(parse_radius(eps)))


def _answers_robustness(record: Record) -> bool:
    names = record.frame.columns
    return any(c.startswith("robust@") for c in names) and not any(
        c.startswith("adv_confidence@") for c in names
    )


def _core_name(models: dict[str, list[Verdicts]], wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in models:
            raise RecordError(f"no record of core {wanted!r}; there are: {', '.join(models)}")
        return wanted
    cores = {name: found for name, found in models.items() if any(is_core(v) for v in found)}
    if not cores:
        raise RecordError(
            "no model is tagged as a core or trained with a standard loss; name one with --core"
        )
    return max(cores, key=lambda name: float(np.mean(cores[name][0].accurate())))


def is_core(model: Verdicts) -> bool:
    """Whether a model was trained for natural accuracy alone, or says that it is a core."""
    tags = model.meta.tags
    return tags.get("role") == "core" or (
        tags.get("role") is None and tags.get("loss") in NATURAL_LOSSES
    )


def _pool(
    models: dict[str, list[Verdicts]], core_name: str, attacks: dict[str, str], eps: str
) -> Pool:
    twice = add_radii(eps, eps)
    core_records = models[core_name]
    names, stages, left_out = [], [], []
    for name, found in models.items():
        if name == core_name:
            continue
        usable = [v for v in found if v.meta.search in attacks]
        if {v.meta.search for v in usable} != attacks.keys():
            left_out.append((name, f"not judged by {_wanting(found, attacks)}"))
        elif not all(v.has("robust", twice) for v in usable):
            left_out.append((name, f"not judged at {twice}"))
        else:
            check_comparable([core_records[0], *usable])
            names.append(name)
            stages.append(_stage(usable, eps, twice))
    if not stages:
        why = "; ".join(f"{name} {reason}" for name, reason in left_out[:3])
        raise RecordError(f"no model can be a stage at {eps}" + (f": {why}" if why else ""))
    meta = core_records[0].meta
    core = Core(core_records[0].accurate(), _worst([v.robust(eps) for v in core_records]))
    return Pool(
        meta.dataset, meta.norm, eps, tuple(names), tuple(stages), core_name, core, tuple(left_out)
    )


def _wanting(found: Sequence[Verdicts], attacks: dict[str, str]) -> str:
    wanted = " and ".join(sorted(set(attacks.values())))
    named = set(attacks.values()) <= {v.meta.attack for v in found}
    return wanted + (" with the settings that the core was judged with" if named else "")


def _stage(found: Sequence[Verdicts], eps: str, twice: str) -> Stage:
    robust = _worst([v.robust(eps) for v in found])
    return indicator_stage(
        found[0].accurate(), robust, robust, robust & _worst([v.robust(twice) for v in found])
    )


def _worst(masks: Sequence[Mask]) -> Mask:
    return np.asarray(np.logical_and.reduce(masks))
