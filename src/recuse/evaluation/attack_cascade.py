"""Attack a deployed composition as one system and record, per sample, what came of it."""

from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recuse.attacks import Apgd
from recuse.composition import AdaptiveAdversary, Cascade
from recuse.data.split import Split
from recuse.engine import Engine, InProcess
from recuse.errors import ConfigError
from recuse.evaluation.identity import answers
from recuse.evaluation.placing import FIRST, clean_logits
from recuse.evaluation.resumable import Job, judge_missing
from recuse.models.checkpoint import weights_sha256
from recuse.models.mixture import MixedNutsMap, mixed
from recuse.progress import Progress, silent
from recuse.random import SampleNoise
from recuse.records.schema import Record, RecordMeta, joint_weights, make_record, radius_column
from recuse.serialize import to_plain
from recuse.threads import suitable_threads

CHUNK = 32


@dataclass(frozen=True)
class CascadeAttack:
    """What a composition is attacked with.

    Attributes:
        adversary: Knows the stages, their selectors, the core and their order.
        seed: Of the adversary and of the deployed selectors, together with each sample's id.
        limit: Attack only the first so many samples; all if absent. Raising it later goes on.
        chunk: Samples attacked together; what a kill can cost. Results do not depend on it.
    """

    adversary: AdaptiveAdversary = field(
        default_factory=lambda: AdaptiveAdversary(attacks=(Apgd(),))
    )
    seed: int = 0
    limit: int | None = None
    chunk: int = CHUNK

    def __post_init__(self) -> None:
        if (self.limit is not None and self.limit < 1) or self.chunk < 1:
            raise ConfigError(
                f"limit {self.limit} and chunk {self.chunk} leave no sample to attack; give 1 or "
                "more"
            )


def attack_cascade(
    cascade: Cascade,
    split: Split,
    attack: CascadeAttack,
    *,
    records: Path,
    repair: bool = False,
    engine: Engine = InProcess(),
    progress: Progress = silent,
) -> Record:
    """Attack a composition within its budget; a rerun attacks only what is missing.

    Args:
        cascade: The composition as deployed, on the device to compute on.
        split: Samples to attack, with labels.
        attack: Adversary, seed, limit.
        records: Folder for the record.
        repair: Attack again what damaged shards held, instead of refusing to go on.
        engine: Where chunks are attacked; the record is the same.
        progress: Told after every piece.

    Returns:
        The record: ``accurate`` (right without an attack) and ``robust`` at the budget's radius
        (right, and no point of the ball was found where the composition answers wrongly), so that
        its robust accuracy is the attacked accuracy; ``selected`` where a stage answers;
        ``broken_by``, the member that answers wrongly at the point found.

    Raises:
        ConfigError: Members that do not fit together.
        DataError: Members that do not fit the data.
        RecordError: The record is of other networks, is damaged, or cannot be written.
    """
    wanted = split if attack.limit is None else split.head(attack.limit)
    _require_fit(cascade, wanted)
    meta = _meta(cascade, split, attack, progress)
    networks, first = _networks(cascade), wanted.head(1).images.to(_device(cascade))
    job = Job(
        meta,
        answers(networks, first),
        partial(_judge, cascade, attack=attack, meta=meta),
        task=f"attack {meta.model}",
        size=attack.chunk,
        threads=max(suitable_threads(m, first, attack.chunk) for m in networks.values()),
        repair=repair,
    )
    return judge_missing(job, wanted, records, engine=engine, progress=progress)


def _require_fit(cascade: Cascade, split: Split) -> None:
    example = split.head(FIRST).images.to(_device(cascade))
    cascade.check(example)
    with cascade.evaluating():
        for model, name in zip(cascade.models, cascade.names, strict=True):
            clean_logits(model, example, split, name=name)


def _mixture(model: nn.Module) -> dict[str, Any] | None:
    """What a mixture is made of, as JSON values; None of other networks."""
    parts = mixed(model)
    if parts is None:
        return None
    shaping = parts.mixture.shaping
    return {
        "members": [weights_sha256(parts.mixture.robust), weights_sha256(parts.standard)],
        "alpha": parts.mixture.alpha,
        "one_hot": parts.mixture.one_hot,
        "map": [shaping.scale, shaping.shift, shaping.power]
        if isinstance(shaping, MixedNutsMap)
        else [],
    }


def _meta(cascade: Cascade, split: Split, attack: CascadeAttack, progress: Progress) -> RecordMeta:
    mixtures = [_mixture(model) for model in cascade.models]
    weights = [weights_sha256(model) for model in cascade.models]
    return RecordMeta(
        model=" → ".join(cascade.names),
        dataset=split.name,
        method="adaptive",
        norm=cascade.budget.norm,
        radii=(cascade.budget.radius,),
        weights=joint_weights(weights),
        settings={
            "adversary": _adversary(attack.adversary),
            "selectors": [selector_settings(stage.selector) for stage in cascade.stages],
            "data": split.fingerprint(progress),
            **({"mixtures": mixtures} if any(mixtures) else {}),
        },
        seed=attack.seed,
        tags={"role": "composition", "members": weights},
    )


def _adversary(adversary: AdaptiveAdversary) -> dict[str, Any]:
    """As JSON values; one that aims at no class is written as before there were any."""
    plain = to_plain(adversary)
    assert isinstance(plain, dict)
    return {key: value for key, value in plain.items() if key != "targets" or value}


def selector_settings(selector: object) -> dict[str, Any]:
    """A selector as JSON values; a network in it by its weights."""
    described: dict[str, Any] = {"kind": type(selector).__name__}
    if not is_dataclass(selector):
        return described
    for f in fields(selector):
        value = getattr(selector, f.name)
        plain = weights_sha256(value) if isinstance(value, nn.Module) else to_plain(value)
        described[f.name] = plain
    return described


def _networks(cascade: Cascade) -> dict[str, nn.Module]:
    """Every network that has a say, selection networks included, by name and place."""
    members = {
        f"{stage.name} (stage {place}, network {number})": network
        for place, stage in enumerate(cascade.stages, start=1)
        for number, network in enumerate(stage.networks, start=1)
    }
    core = cascade.core
    return members if core is None else members | {f"{core.name} (core)": core.model}


def _judge(cascade: Cascade, part: Split, attack: CascadeAttack, meta: RecordMeta) -> Record:
    device = _device(cascade)
    noise = SampleNoise(attack.seed, part.ids, "deployed")
    found = attack.adversary(cascade, part.images.to(device), part.labels.to(device), noise=noise)
    answers = found.natural
    columns = {
        "sample_id": list(part.ids),
        "label": part.labels.numpy(),
        "prediction": [label if label >= 0 else None for label in answers.label.tolist()],
        "accurate": found.correct.cpu().numpy(),
        "selected": (answers.stage < len(cascade.stages)).cpu().numpy(),
        radius_column("robust", cascade.budget.eps): found.robust.cpu().numpy(),
        "broken_by": [None if stage < 0 else stage for stage in found.broken_by.tolist()],
    }
    return make_record(meta, columns)


def _device(cascade: Cascade) -> torch.device:
    return next((p.device for m in cascade.models for p in m.parameters()), torch.device("cpu"))


__all__ = ["CascadeAttack", "attack_cascade", "selector_settings"]
