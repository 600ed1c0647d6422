"""Which model is the core: the one rule of commands, reports, searches and published logs."""

from collections.abc import Mapping, Sequence

from recuse.analysis.metrics import natural_accuracy
from recuse.analysis.verdicts import Verdicts
from recuse.errors import RecordError

# Losses of models trained for natural accuracy alone.
NATURAL_LOSSES = frozenset({"std", "standard", "wstd"})


def cores(models: Sequence[Verdicts]) -> list[Verdicts]:
    """The records of those that answer what no stage answers.

    A model is a core if its record says so. Where none does, the most accurate of those trained
    for natural accuracy alone is one, if they say nothing of their part.

    Args:
        models: Of one data set.
    """
    declared = [v for v in models if v.role == "core"]
    trained = [v for v in models if is_standard(v) and v.labelled]
    best = max(trained, key=lambda v: natural_accuracy(v.accurate()), default=None)
    return declared or [v for v in trained if best is not None and _same(v, best)]


def is_standard(model: Verdicts) -> bool:
    """Whether a model was trained for natural accuracy alone and says nothing of its part."""
    return model.meta.tags.get("role") is None and model.meta.tags.get("loss") in NATURAL_LOSSES


def the_core(models: Mapping[str, Sequence[Verdicts]], wanted: str | None = None) -> str:
    """Name of the one core.

    Args:
        models: Records of each network, by its name.
        wanted: The core, where somebody names it.

    Raises:
        RecordError: A name that does not occur, no core, or several to choose from.
    """
    if wanted is not None:
        if wanted not in models:
            raise RecordError(f"no record of model {wanted!r}; there are: {', '.join(models)}")
        return wanted
    found = cores([v for records in models.values() for v in records])
    names = [name for name, records in models.items() if any(v in found for v in records)]
    if not names:
        raise RecordError(
            "no model is tagged as a core or trained with a standard loss; name one (--core NAME)"
        )
    # One network under several names is one core.
    if len({models[name][0].meta.weights or name for name in names}) > 1:
        raise RecordError(
            f"{len(names)} models have the role core ({', '.join(names)}); name the core model "
            "(--core NAME)"
        )
    return names[0]


def _same(first: Verdicts, second: Verdicts) -> bool:
    one, two = first.meta, second.meta
    return (one.model, one.weights) == (two.model, two.weights)


__all__ = ["cores", "is_standard", "the_core"]
