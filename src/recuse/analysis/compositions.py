"""Compositions of models that were judged apart: from records to accounts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from recuse.analysis.accounting import (
    Core,
    Stage,
    indicator_stage,
    paper_account,
    sound_account,
)
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Verdicts, add_radii, check_comparable, verdicts
from recuse.errors import RecordError
from recuse.records.schema import Record


@dataclass(frozen=True)
class Composed:
    """Rates of one composition at one radius, each in [0, 1].

    Attributes:
        name: ``stage → … → core``.
        eps: The attacker's radius.
        natural: Accuracy of the deployed composition on unperturbed images.
        sound: Lower bound on its robust accuracy, as strong as the attack behind the records.
        paper: Robust accuracy by the paper's way of counting.
        paper_natural: Natural accuracy by the paper's way of counting.
        core_share: Share of the images that every stage leaves to the core.
    """

    name: str
    eps: str
    natural: float
    sound: float
    paper: float
    paper_natural: float
    core_share: float

    def as_dict(self) -> dict[str, str | float]:
        """JSON values."""
        return asdict(self)


def compose_records(
    records: Sequence[Record],
    *,
    eps: str,
    core: str | None = None,
    stages: Sequence[str] = (),
) -> list[Composed]:
    """Account for one cascade, or for every robust model alone in front of the core.

    Args:
        records: Models judged on the same samples at eps and 2 eps.
        eps: The attacker's radius, which is the selectors' radius too.
        core: Name of the core; by default the record whose ``role`` tag is ``core``.
        stages: Names in order; by default one composition per record that is not the core.

    Returns:
        One entry per composition.

    Raises:
        RecordError: A name that does not occur, no core, models judged on different samples,
            or without the doubled radius.
    """
    models = {record.meta.model: verdicts(record) for record in records}
    core_name = core or _core_name(records)
    chains = [tuple(stages)] if stages else [(name,) for name in models if name != core_name]
    if missing := [name for name in (core_name, *stages) if name not in models]:
        raise RecordError(f"no record of model {missing[0]!r}; there are: {', '.join(models)}")
    return [_compose(models, chain, core_name, eps) for chain in chains]


def stage_of(model: Verdicts, eps: str) -> Stage:
    """A model behind its own robustness indicator of radius eps, attacked within eps."""
    robust = model.robust(eps)
    return indicator_stage(model.accurate(), robust, robust, model.robust(add_radii(eps, eps)))


def _core_name(records: Sequence[Record]) -> str:
    names = [r.meta.model for r in records if r.meta.tags.get("role") == "core"]
    if len(names) != 1:
        raise RecordError(
            f"{len(names)} records have the role core; name the core model (--core NAME)"
        )
    return names[0]


def _compose(
    models: dict[str, Verdicts], chain: tuple[str, ...], core_name: str, eps: str
) -> Composed:
    chosen = [models[name] for name in (*chain, core_name)]
    check_comparable(chosen)
    stages = [stage_of(model, eps) for model in chosen[:-1]]
    core = Core(chosen[-1].accurate(), chosen[-1].robust(eps))
    paper, sound = paper_account(stages, core), sound_account(stages, core)
    left = ~stages[0].selects
    for stage in stages[1:]:
        left = left & ~stage.selects
    return Composed(
        name=" → ".join((*chain, core_name)),
        eps=eps,
        natural=rate(sound.natural),
        sound=rate(sound.robust),
        paper=rate(paper.robust),
        paper_natural=rate(paper.natural),
        core_share=rate(left),
    )
