"""What each of several attacks alone left of every network, beside what all left together."""

from collections.abc import Mapping, Sequence

from recuse.analysis.elsewhere import own
from recuse.analysis.intervals import wilson_of
from recuse.analysis.searches import left_more, searches
from recuse.analysis.verdicts import Verdicts, verdicts
from recuse.records.schema import Record
from recuse.report.study.markdown import difference, share, table

INTRODUCTION = """## What each attack left

Robust accuracy that all attacks together leave of a network, those of whole systems and of other
runs included, and how many points more each search alone leaves of the images that it met.
"""


def each_attack(found: Mapping[str, Verdicts], records: Sequence[Record]) -> list[str]:
    """The lines of the section; none where there was one search.

    Args:
        found: The networks by name, with what any attack broke; the core under ``core``.
        records: Of every search; what other runs found is in ``found`` alone.
    """
    met = [known for known in map(verdicts, own(records)) if known.radii()]
    found_by = searches(known.meta for known in met)
    words = dict(sorted(found_by.items(), key=lambda entry: entry[1]))
    if len(words) == 1:
        return []
    rows = []
    for eps in found["core"].radii():
        for name, model in found.items():
            these = [one for one in met if one.meta.model == name and one.has("robust", eps)]
            by = {one.meta.search: one for one in sorted(these, key=lambda one: one.samples)}
            left = share(wilson_of(model.accurate() & model.robust(eps)))
            rows.append([name, eps, left, *(_more(by.get(one), model, eps) for one in words)])
    heads = ["network", "ε", "all together", *(f"{word} alone" for word in words.values())]
    return [INTRODUCTION, *table(heads, rows)]


def _more(alone: Verdicts | None, known: Verdicts, eps: str) -> str:
    if alone is None:
        return "–"
    some = f" of {alone.samples}" if alone.samples < known.samples else ""
    return difference(left_more(alone, known, eps)) + some


__all__ = ["each_attack"]
