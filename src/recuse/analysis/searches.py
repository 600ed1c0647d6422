"""What tells the attacks behind several records apart: the name, and settings that differ."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

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


def _differs(key: str, settings: Sequence[Mapping[str, str]]) -> bool:
    return len({entry.get(key) for entry in settings}) > 1


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping | list):
        entries = value.items() if isinstance(value, Mapping) else enumerate(value, 1)
        for key, entry in entries:
            yield from _flat(entry, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, str(value)


__all__ = ["searches"]
