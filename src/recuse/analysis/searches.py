"""What tells the attacks behind several records apart, and what each of them alone left."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from recuse.analysis.intervals import Interval, paired_difference
from recuse.analysis.verdicts import Verdicts
from recuse.records.schema import RecordMeta


def searches(metas: Iterable[RecordMeta]) -> dict[str, str]:
    """Every attack among these records, by :attr:`RecordMeta.search`, in words that differ.

    Args:
        metas: Of records that are shown together.

    Returns:
        ``apgd-ce``; two attacks of one name each add the settings that are not the same in both:
        ``apgd-ce (steps 10)``.
    """
    kinds = {meta.search: meta for meta in metas}
    settings = {search: dict(_flat(m.settings.get("attack"))) for search, m in kinds.items()}
    words = {}
    for search, meta in kinds.items():
        same = [settings[other] for other, m in kinds.items() if m.method == meta.method]
        told = [f"{key} {value}" for key, value in settings[search].items() if _differs(key, same)]
        words[search] = f"{meta.method} ({', '.join(told)})" if told else meta.method
    return words


def left_more(alone: Verdicts, known: Verdicts, eps: str) -> Interval:
    """Robust accuracy that one search leaves beyond what all together leave, on its images.

    Args:
        alone: Its record, as it is; on all of the images or on some.
        known: The same network with what any attack broke, as
            :func:`recuse.analysis.networks.gather` says.
        eps: The radius.

    Raises:
        RecordError: One of the two was not judged there.
    """
    left = dict(zip(known.ids, known.accurate() & known.robust(eps), strict=True))
    held = np.array([left[sample] for sample in alone.ids], dtype=np.bool_)
    return paired_difference(alone.accurate() & alone.robust(eps), held)


def _differs(key: str, settings: Sequence[Mapping[str, str]]) -> bool:
    return len({entry.get(key) for entry in settings}) > 1


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping | list):
        entries = value.items() if isinstance(value, Mapping) else enumerate(value, 1)
        for key, entry in entries:
            yield from _flat(entry, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, str(value)


__all__ = ["left_more", "searches"]
