"""Samples that a record holds more than once: what two writers, or a repair cut short, leave."""

import polars as pl

# What judging cost depends on the batch, not on the sample alone.
COSTS = ("samples", "forwards", "backwards", "recheck_passes", "margin_passes")
ROUNDING = 1e-3


def split_duplicates(
    frame: pl.DataFrame, *, rounding: float = ROUNDING
) -> tuple[pl.DataFrame, list[str]]:
    """Each sample once, and the samples whose rows contradict each other.

    Args:
        frame: Rows of a record.
        rounding: How far two numbers of equal rows may lie apart; costs are not compared.

    Returns:
        The first of equal rows, and no row of a sample with unequal ones; the ids of the latter.
    """
    twice = frame.filter(pl.col("sample_id").is_duplicated())
    if twice.is_empty():
        return frame, []
    compared = [c for c in frame.columns if c not in COSTS]
    differs = pl.any_horizontal(_differs(c, frame.schema[c].is_float(), rounding) for c in compared)
    groups = twice.group_by("sample_id").agg(differs.alias("differs"))
    unequal = sorted(groups.filter("differs")["sample_id"])
    kept = frame.filter(~pl.col("sample_id").is_in(unequal))
    return kept.unique("sample_id", keep="first", maintain_order=True), unequal


def _differs(column: str, is_float: bool, rounding: float) -> pl.Expr:
    values = pl.col(column)
    if not is_float:
        return values.n_unique() > 1
    apart = values.max() - values.min() > rounding
    return apart.fill_null(value=False) | (values.is_null().any() & values.is_not_null().any())


__all__ = ["ROUNDING", "split_duplicates"]
