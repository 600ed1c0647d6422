"""What other runs have found of a run's networks, as records that may lie in its folder.

What any attack broke of a network is broken wherever it is counted: a table reads one run folder,
so what is known elsewhere has to be taken into it.
"""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from recuse.analysis.networks import SOURCE, gather, of_one_network
from recuse.analysis.verdicts import Mask, Verdicts, verdicts
from recuse.radius import parse_radius
from recuse.records.run_folder import RunFolder
from recuse.records.schema import Record, check_record, robust_columns

_OF_THE_SAMPLE = ("sample_id", "label", "prediction", "accurate", "confidence", "flat")


def elsewhere(run: RunFolder, other: RunFolder) -> list[tuple[Record, dict[str, int]]]:
    """Verdicts of another run that break what a run calls robust, and how many at each radius.

    Networks are matched by their weights, images by their ids and labels; what attacks on whole
    systems and searches for worst margins broke there is broken in these verdicts.

    Args:
        run: The run that shall know it.
        other: A run of some of the same networks.

    Returns:
        Records under the names of ``run``, which say where they come from.
    """
    mine, found = _known(run), []
    for theirs in _known(other):
        ours = [model for model in mine if of_one_network(model, theirs)]
        if not ours:
            continue
        whole = max(ours, key=lambda model: model.samples)
        within = _within(whole, theirs)
        lost = {far: _refuted(ours, theirs, far, near) for far, near in within.items()}
        if any(lost.values()):
            record = _taken(whole, theirs, list(dict.fromkeys(within.values())), other.name)
            record = _with_earlier(record, run.records)
            mine.append(verdicts(record))
            found.append((record, lost))
    return found


def own(records: Sequence[Record]) -> list[Record]:
    """The records that a run made itself, without what was taken in.

    What was taken in may rest on attacks on whole systems, of which a promise must know nothing.
    """
    return [record for record in records if SOURCE not in record.meta.settings]


def _known(run: RunFolder) -> list[Verdicts]:
    judged = gather([verdicts(record) for record in run.records], run.attacks)
    return [model for model in judged if model.meta.weights and model.radii()]


def _within(mine: Verdicts, theirs: Verdicts) -> dict[str, str]:
    """For each of our radii the largest of theirs that is no larger and says something new.

    What is broken at a radius is broken at every larger one, whether it was asked there or not.
    """
    found = {}
    for far in mine.radii():
        known = [r for r in theirs.radii() if parse_radius(r) <= parse_radius(far)]
        near = max(known, key=parse_radius, default=far)
        if known and (near == far or not mine.has("robust", near)):
            found[far] = near
    return found


def _refuted(mine: Sequence[Verdicts], theirs: Verdicts, radius: str, near: str) -> int:
    """Samples that are broken there, robust in a record here, and broken in none here."""
    judged = [model for model in mine if model.has("robust", radius)]
    robust = {sample for model in judged for sample in _where(model, model.robust(radius))}
    broken = {sample for model in judged for sample in _where(model, model.broken(radius))}
    return len((set(_where(theirs, theirs.broken(near))) & robust) - broken)


def _where(model: Verdicts, rows: Mask) -> Sequence[str]:
    return model.ids.filter(pl.Series(rows)).to_list()


def _taken(mine: Verdicts, theirs: Verdicts, radii: Sequence[str], source: str) -> Record:
    """Their verdicts on our samples, under our name."""
    columns = [name for name in _OF_THE_SAMPLE if name in theirs.frame.columns]
    rows = theirs.frame.filter(pl.col("sample_id").is_in(mine.ids.implode()))
    meta = replace(
        theirs.meta,
        model=mine.meta.model,
        radii=tuple(radii),
        settings={**theirs.meta.settings, SOURCE: source},
        tags=mine.meta.tags,
    )
    return Record(meta, rows.select(*columns, *(f"robust@{radius}" for radius in radii)))


def _with_earlier(record: Record, records: Sequence[Record]) -> Record:
    """With what was taken in before under the same key, maybe from another run of that name."""
    earlier = next((known for known in records if known.meta.key == record.meta.key), None)
    if earlier is None:
        return record
    broken = [
        pl.when((~pl.col(name)).any()).then(False).otherwise(pl.col(name).first()).alias(name)
        for name in robust_columns(record.frame)
    ]
    rows = pl.concat([record.frame, earlier.frame], how="diagonal").group_by("sample_id")
    others = pl.all().exclude(robust_columns(record.frame)).first()
    return check_record(Record(record.meta, rows.agg(others, *broken)))


__all__ = ["elsewhere", "own"]
