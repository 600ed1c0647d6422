"""The page of an audit, put together from the tables and pictures that every report has."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from recuse.analysis.audit import Audit, by_class
from recuse.analysis.measured import rates_at
from recuse.report.audit.words import (
    Asked,
    Slope,
    attacks_on,
    core_in_words,
    indicator_in_words,
    next_command,
    rates_in_words,
    slopes_in_words,
    trust_in_words,
    verdict_in_words,
)
from recuse.report.charts.plots import split_bars
from recuse.report.page.blocks import (
    Block,
    Code,
    Column,
    Figure,
    Page,
    Rate,
    Section,
    Table,
    Text,
    Tile,
)
from recuse.report.run.advice_text import advice_rule
from recuse.report.run.composition_tables import composition_table
from recuse.report.run.gallery import Row, gallery
from recuse.report.run.model_figures import split_bars_of
from recuse.report.run.origin import record_table, settings
from recuse.report.run.tables import interval_rate, model_table

WORST_CLASSES = 10


def audit_page(
    audit: Audit,
    slopes: Sequence[Slope],
    asked: Asked,
    *,
    label_names: Sequence[str],
    stubborn: pl.DataFrame | None = None,
    broken: pl.DataFrame | None = None,
) -> Page:
    """Everything an audit found, the verdict first.

    Args:
        audit: The numbers.
        slopes: Of the network, and of the core.
        asked: What was asked for.
        label_names: Names of the classes.
        stubborn: Pictures of robust mistakes, as :func:`recuse.report.run.gallery.gallery` takes
            them.
        broken: Pictures of right answers that the attack changed.
    """
    meta, near = audit.network.meta, audit.near
    sections = (
        _next(audit, asked),
        _rates(audit),
        _trust(audit, slopes),
        Section("What an indicator would select", (_selection(audit),), indicator_in_words(near)),
        _core(audit),
        Section("The weakest classes", (_classes(audit, label_names),)),
        _pictures(audit, stubborn, broken),
        _origin(audit),
    )
    return Page(
        title=f"Audit of {meta.model}",
        summary=(rates_in_words(audit),),
        sections=tuple(section for section in sections if section.blocks),
        subtitle=f"{meta.dataset} · {near.samples:,} images · {meta.norm} {near.eps}",
        tiles=_tiles(audit),
        footer=f"Written by recuse on {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}. Robust "
        f"means that an attack ({attacks_on(audit.network)}) found nothing, which is not a proof. "
        "In brackets and in small print: 95 % intervals.",
    )


def _tiles(audit: Audit) -> tuple[Tile, ...]:
    near, where = audit.near, f"{audit.network.meta.norm} {audit.near.eps}"
    return (
        Tile("Natural accuracy", interval_rate(near.natural)),
        Tile(
            "Robust accuracy", interval_rate(near.robust), f"right and unchanged, {where}", "good"
        ),
        Tile(
            "Robust inaccuracy",
            interval_rate(near.robust_inaccuracy),
            f"wrong and unchanged, {where}",
            "bad",
        ),
        Tile(
            "Right where selected",
            interval_rate(near.precision),
            "of what stays selected wherever an attack moves it",
        ),
    )


def _next(audit: Audit, asked: Asked) -> Section:
    command = Code("The next command", next_command(audit, asked), folded=False)
    return Section("What to do next", (command,), verdict_in_words(audit, asked))


def _rates(audit: Audit) -> Section:
    rates = [audit.near, audit.far]
    if audit.core is not None:
        rates += [rates_at(audit.core, m.eps) for m in (audit.near, audit.far)]
    bars = Figure(
        "four_splits",
        "What becomes of every image",
        split_bars(split_bars_of(rates)),
        "Robust: the attack found nothing that changes the answer. The red part at the end is the "
        "dangerous one: wrong and robust.",
    )
    return Section("Right, robust, and robustly wrong", (bars, model_table(rates)))


def _trust(audit: Audit, slopes: Sequence[Slope]) -> Section:
    members = [audit.network] if audit.core is None else [audit.network, audit.core]
    said = tuple(trust_in_words(model, audit.near.eps) for model in members)
    columns = (
        "model",
        Column("slope of the logits", "per unit", "mean of the steepest found", decimals=2),
        Column("slope of the probabilities", "per unit", "mean of the steepest found", decimals=2),
        Column("images"),
    )
    table = Table(
        "Smoothness",
        columns,
        tuple((s.model, s.logits, s.probabilities, s.images) for s in slopes),
        slopes_in_words(slopes),
    )
    text = Text(said, "warning" if audit.finding == "hidden" else "note")
    return Section("Whether the numbers can be trusted", (text, table))


def _selection(audit: Audit) -> Table:
    near = audit.near
    columns = (
        "images",
        Column("share", "%", "of all images"),
        Column("right", "%", "of these"),
    )
    rows = (
        ("all", Rate(1.0), interval_rate(near.natural)),
        ("selected as they are", interval_rate(near.stable), interval_rate(near.right_if_stable)),
        (
            "selected wherever an attack moves them",
            interval_rate(near.selected),
            interval_rate(near.precision),
        ),
    )
    caption = (
        "An indicator selects an image if no attack within the radius changes the answer. It does "
        "so for every image within the radius if the answer is stable within twice the radius."
    )
    return Table("The robustness indicator", columns, rows, caption)


def _core(audit: Audit) -> Section:
    if audit.composition is None or audit.advice is None:
        return Section("What a core could add", (Text((core_in_words(audit),)),))
    return Section(
        "Whether to compose",
        (
            composition_table([audit.composition], [audit.advice]),
            Text((advice_rule(audit.advice.choices),), "note"),
        ),
        core_in_words(audit),
    )


def _classes(audit: Audit, label_names: Sequence[str]) -> Table:
    found = by_class(audit.network, audit.near.eps)
    columns = (
        "class",
        Column("images"),
        Column("natural accuracy", "%"),
        Column("robust accuracy", "%"),
        Column("robust inaccuracy", "%"),
    )
    rows = tuple(
        (
            label_names[c.label],
            c.samples,
            interval_rate(c.natural),
            interval_rate(c.robust),
            interval_rate(c.robust_inaccuracy),
        )
        for c in found[:WORST_CLASSES]
    )
    caption = (
        f"The {len(rows)} least robust of {len(found)} classes. Each interval is of one class; the "
        "worst of many look worse than they are."
    )
    return Table("By class", columns, rows, caption)


def _pictures(audit: Audit, stubborn: pl.DataFrame | None, broken: pl.DataFrame | None) -> Section:
    where = f"{audit.network.meta.norm} {audit.near.eps}"

    def stays(row: Row) -> str:
        return f"no attack within {where} changes the answer ({row['sample_id']})"

    def moves(row: Row) -> str:
        return f"right until it was attacked within {where} ({row['sample_id']})"

    blocks: list[Block] = []
    if stubborn is not None and stubborn.height:
        caption = "Wrong, sure of it, and not to be moved: the most confident ones."
        blocks.append(gallery(stubborn, "Robustly wrong", caption, stays))
    if broken is not None and broken.height:
        caption = (
            "Right answers that a small change turns, the most confident first. The perturbation "
            "is shown around grey, stretched to full contrast."
        )
        blocks.append(gallery(broken, "Right, but not robust", caption, moves))
    return Section("Pictures", tuple(blocks))


def _origin(audit: Audit) -> Section:
    models = [audit.network] if audit.core is None else [audit.network, audit.core]
    return Section("How this was computed", (record_table(models), settings(models)))


__all__ = ["WORST_CLASSES", "audit_page"]
