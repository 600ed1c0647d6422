"""Everything that is known of one network in one place: what any attack broke is broken everywhere.

Several records may judge the same function on the same samples: by other attacks, in other run
folders, or as a member of a composition that was attacked as a whole. Whoever counts asks here
first, so that no two tables differ in what they know.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from recuse.analysis.adversaries import refute_members
from recuse.analysis.comparable import same_question
from recuse.analysis.verdicts import Verdicts
from recuse.radius import parse_radius
from recuse.records.schema import Record, radius_column, robust_columns

# Of a record that was taken in from another run: which run. Networks are fairly compared without
# having met what it met: it can only have broken more.
SOURCE = "found in"
# Two records are of one function if they agree on this share of the answers, and on the
# confidences but for this much in the mean: a copy in lower precision does, the same weights
# behind another transformation of the input do not.
_SAME_ANSWERS = 0.995
_SAME_CONFIDENCE = 0.005


def gather(
    found: Sequence[Verdicts], attacks: Sequence[Record] = (), homes: Sequence[str] = ()
) -> list[Verdicts]:
    """Each record with the verdicts of all attacks that met its network, in the order given.

    Records are of one network if they have the same weights, or, where none are known, the same
    name and home; and if they judged the same images in the same norm and saw the same answers.

    Records of certificates are left as they are.

    Args:
        found: Records of any networks.
        attacks: Of attacks on whole compositions; where they show that a member broke, it did.
        homes: Run of each record; may be left out where names alone tell networks apart.
    """
    where = homes or [""] * len(found)

    def others(place: int) -> list[Verdicts]:
        attacked = (i for i, v in enumerate(found) if i != place and v.radii())
        return [
            found[i]
            for i in attacked
            if of_one_network(found[place], found[i], where[place], where[i])
        ]

    together = [
        worst_case([v, *others(place)]) if v.radii() else v for place, v in enumerate(found)
    ]
    return refute_members(together, attacks)


def of_its_own(found: Sequence[Verdicts]) -> list[Verdicts]:
    """The records that a run made itself; what it took in has said its part in :func:`gather`."""
    return [model for model in found if SOURCE not in model.meta.settings]


def of_one_network(first: Verdicts, second: Verdicts, home: str = "", other: str = "") -> bool:
    """Whether two records are of one network on the same images; see :func:`gather`."""
    one, two = first.meta, second.meta
    if one.weights or two.weights:
        alike = one.weights == two.weights
    else:
        alike = (one.model, home) == (two.model, other)
    return alike and same_question(first, second) and _same_answers(first, second)


def _same_answers(first: Verdicts, second: Verdicts) -> bool:
    """Whether both saw one function, as far as they share samples and say what it answered."""
    names = ("prediction", "accurate", "confidence")
    known = [n for n in names if n in first.frame.columns and n in second.frame.columns]
    both = first.frame.select("sample_id", *known).join(
        second.frame.select("sample_id", *known), on="sample_id", suffix=" of the other"
    )
    for name in known:
        mine, theirs = both[name], both[f"{name} of the other"]
        if name == "confidence":
            apart = np.abs(mine.to_numpy() - theirs.to_numpy())
            if apart.size and np.nanmean(apart) > _SAME_CONFIDENCE:
                return False
        elif not mine.eq_missing(theirs).sum() >= _SAME_ANSWERS * both.height:
            return False
    return True


def worst_case(found: Sequence[Verdicts]) -> Verdicts:
    """Verdicts of several attacks on one network: robust where none of them broke it.

    What is broken at one radius is broken at every larger one, and an attack on some of the
    samples counts on these. What one of them could not judge stays so until another one breaks
    it. Radii that others judged are added where together they judged every sample.

    Args:
        found: Records of one network. The first gives the samples and all that is no attack's
            verdict; those of another norm or other data are passed over.
    """
    first = found[0]
    others = [v for v in found[1:] if same_question(first, v)]
    if not others:
        return first
    aligned = [first.frame, *(_aligned(first, v) for v in others)]
    radii = {c.partition("@")[2] for frame in aligned for c in robust_columns(frame)}
    columns = [
        column
        for radius in sorted(radii, key=parse_radius)
        if (column := _verdict(aligned, radius)) is not None
    ]
    frame = first.frame.with_columns(*columns, *_confidences(aligned))
    open_rows = np.zeros(frame.height, dtype=np.bool_)
    for column in columns:
        open_rows |= column.is_null().to_numpy()
    if open_rows.any():
        frame = frame.with_columns(pl.Series("flat", open_rows))
    whole = [v for v in others if set(first.ids) <= set(v.ids)]
    met = {meta.key: meta for v in (first, *whole) for meta in v.met if SOURCE not in meta.settings}
    return replace(first, frame=frame, attacks=tuple(met.values()))


def _aligned(first: Verdicts, other: Verdicts) -> pl.DataFrame:
    """The other record's rows in the order of the first's samples; absent rows are null."""
    kinds = ("robust", "adv_confidence")
    columns = [c for kind in kinds for c in robust_columns(other.frame, kind)]
    rows = other.frame.select("sample_id", *columns, pl.lit(True).alias("asked"))
    return first.frame.select("sample_id").join(
        rows, on="sample_id", how="left", maintain_order="left"
    )


def _verdict(aligned: Sequence[pl.DataFrame], radius: str) -> pl.Series | None:
    """All verdicts within one radius; None where nobody asked it of some sample."""
    name, size = radius_column("robust", radius), parse_radius(radius)
    broken, open_, asked = np.zeros((3, aligned[0].height), dtype=np.bool_)
    for frame in aligned:
        rows = frame["asked"].fill_null(False).to_numpy() if "asked" in frame.columns else True
        for column in robust_columns(frame):
            if parse_radius(column.partition("@")[2]) <= size:
                broken |= frame[column].eq_missing(False).to_numpy()
        if name in frame.columns:
            open_ |= rows & frame[name].is_null().to_numpy()
            asked |= rows
    if not asked.all():
        return None
    return pl.DataFrame({"b": broken, "o": open_}).select(
        pl.when("b").then(False).when("o").then(None).otherwise(True).alias(name)
    )[name]


def _confidences(aligned: Sequence[pl.DataFrame]) -> list[pl.Series]:
    """The largest confidence found within each radius; those not known of every sample are out."""
    names = dict.fromkeys(c for frame in aligned for c in robust_columns(frame, "adv_confidence"))
    largest = [
        pl.DataFrame(
            [f[name].alias(str(i)) for i, f in enumerate(aligned) if name in f.columns]
        ).select(pl.max_horizontal(pl.all()).alias(name))[name]
        for name in names
    ]
    return [column for column in largest if not column.null_count()]


def essential(found: Sequence[Verdicts], homes: Sequence[str] = ()) -> list[int]:
    """Places of the records that say something which no other record of the network says.

    Args:
        found: After :func:`gather`.
        homes: As there; records of different homes all stay.
    """
    where = homes or [""] * len(found)
    order = sorted(range(len(found)), key=lambda i: (-found[i].samples, -len(_says(found[i]))))
    kept: list[int] = []
    for i in order:
        rivals = [
            found[j]
            for j in kept
            if where[i] == where[j]
            and found[i].meta.model == found[j].meta.model
            and of_one_network(found[i], found[j], where[i], where[j])
        ]
        if not any(_covers(rival, found[i]) for rival in rivals):
            kept.append(i)
    return sorted(kept)


def _says(model: Verdicts) -> set[str]:
    return {c for c in model.frame.columns if "@" in c} | ({"radius"} & set(model.frame.columns))


def _covers(rival: Verdicts, model: Verdicts) -> bool:
    return _says(model) <= _says(rival) and set(model.ids) <= set(rival.ids)
