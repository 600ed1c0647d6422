"""Which records are of one network, ask one question, and may stand in one table."""

from collections.abc import Sequence

from recuse.analysis.verdicts import Verdicts
from recuse.errors import RecordError

_BOTH = 2


def by_model(judged: Sequence[Verdicts]) -> dict[str, list[Verdicts]]:
    """Records of each network; two networks of one name are told apart by their weights."""
    weights: dict[str, set[str]] = {}
    for v in judged:
        weights.setdefault(v.meta.model, set()).add(v.meta.weights)
    models: dict[str, list[Verdicts]] = {}
    for v in judged:
        name = v.meta.model
        label = name if len(weights[name]) == 1 else f"{name} ({v.meta.weights[:8] or 'log'})"
        models.setdefault(label, []).append(v)
    return models


def same_question(first: Verdicts, second: Verdicts) -> bool:
    """Whether two records judged the same images in the same norm, as far as they say.

    A set and a part of it have other fingerprints; there the samples decide: records that share
    some, and agree on the labels of all they share, are of the same images.
    """
    one, two = first.meta, second.meta
    if (one.dataset, one.norm) != (two.dataset, two.norm):
        return False
    data = {one.settings.get("data"), two.settings.get("data")} - {None}
    return len(data) <= 1 or _same_samples(first, second)


def _same_samples(first: Verdicts, second: Verdicts) -> bool:
    known = [v.frame for v in (first, second) if "label" in v.frame.columns]
    if len(known) < _BOTH:
        return False
    labels = [frame.select("sample_id", "label") for frame in known]
    shared = labels[0].join(labels[1], on="sample_id", suffix=" of the other")
    return bool(shared.height) and shared["label"].equals(
        shared["label of the other"], check_names=False
    )


def check_comparable(models: Sequence[Verdicts]) -> None:
    """Refuse models that were not judged on the same samples of the same data in one norm.

    Raises:
        RecordError: Names the two models and what differs.
    """
    first = models[0]
    for other in models[1:]:
        pair = f"{first.meta.model!r} and {other.meta.model!r}"
        if other.meta.dataset != first.meta.dataset:
            raise RecordError(
                f"{pair} were judged on different data: {first.meta.dataset}, {other.meta.dataset}"
            )
        if other.meta.norm != first.meta.norm:
            raise RecordError(
                f"{pair} were judged in different norms: {first.meta.norm}, {other.meta.norm}"
            )
        if not first.ids.equals(other.ids):
            odd = sorted(set(first.ids) ^ set(other.ids))
            raise RecordError(
                f"{pair} were judged on different samples, for example sample_id {odd[0]!r}"
            )


__all__ = ["by_model", "check_comparable", "same_question"]
