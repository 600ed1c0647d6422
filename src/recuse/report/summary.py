"""The report in plain words and four numbers, the sound ones first."""

from collections.abc import Sequence

from recuse.analysis.intervals import Interval
from recuse.analysis.verdicts import Mask
from recuse.report.composed import Composed
from recuse.report.measured import CERTIFIED, ROBUST, Measured
from recuse.report.page import Cell, Rate, Tile, percent, points
from recuse.report.tables import repetition_table
from recuse.report.values import show

_TOLD = 3
_BUDGETS = {
    "linf": "change every input value by up to {eps}",
    "l2": "move the input by up to {eps} in Euclidean distance",
}


def summarise(rates: Sequence[Measured], best: Sequence[Composed]) -> tuple[str, ...]:
    """Paragraphs: what was gained over the core, what it cost, what remains dangerous.

    Args:
        rates: Rates of all models.
        best: The recommended one of each radius.
    """
    paragraphs = _with_composition(best) if best else _without_composition(rates)
    dangerous = [text for group in _radii(rates) if (text := _dangerous(group))]
    if dangerous:
        paragraphs.append(
            "Stably wrong is the mistake that abstention cannot catch: "
            f"{'; '.join(dangerous[:_TOLD])}."
        )
    return (*paragraphs, *_over_seeds(rates))


def caveats(
    rates: Sequence[Measured], compositions: Sequence[Composed], best: Sequence[Composed]
) -> tuple[str, ...]:
    """What the numbers do not say."""
    notes = []
    if best:
        notes.append(
            "Compositions are counted soundly: an image counts as robust only if no model that "
            "an attacker can make answer there is wrong."
        )
    if any(m.kind == ROBUST for m in rates):
        attacks = sorted({m.judged.meta.attack for m in rates if m.kind == ROBUST})
        notes.append(
            f"Robust means that an attack ({', '.join(attacks)}) found nothing, which is not a "
            "proof: a stronger attack can only lower the robust numbers."
        )
    choices = max((sum(c.eps == b.eps for c in compositions) for b in best), default=1)
    if choices > 1:
        notes.append(
            f"The recommended composition was picked among {choices} on the same samples it is "
            "reported on, which favours it slightly."
        )
    return tuple(notes)


def headline(best: Sequence[Composed], rates: Sequence[Measured]) -> tuple[Tile, ...]:
    """The numbers that matter, at the first radius."""
    if best:
        return _composition_tiles(best[0], rates)
    robust = [m for m in rates if m.robust and m.judged.role not in ("core", "standard")]
    if not robust:
        return ()
    top = max(robust, key=lambda m: m.robust.estimate if m.robust else 0.0)
    where = f"{top.judged.meta.model}, {top.judged.meta.norm} {top.eps}"
    where += ", certified" if top.kind == CERTIFIED else ""
    tiles = [
        Tile("Natural accuracy", _rate(top.natural), where),
        Tile("Robust accuracy", _rate(top.robust), where, tone="good"),
        Tile("Stably wrong", _rate(top.inaccurate), where, tone="bad"),
    ]
    return tuple(tile for tile in tiles if tile.value is not None)


def _composition_tiles(c: Composed, rates: Sequence[Measured]) -> tuple[Tile, ...]:
    core_natural, core_robust = float(c.core_accurate.mean()), float(c.core_robust.mean())
    radius = f"{c.stage.meta.norm} {c.eps}"
    tiles = [
        Tile(
            f"Robust accuracy, {'proven' if c.kind == CERTIFIED else 'sound'}, {radius}",
            _rate(c.robust),
            f"the core alone: {_percent(core_robust)}",
            tone="good" if c.robust.estimate > core_robust else "bad",
        ),
        Tile(
            "Natural accuracy",
            _rate(c.natural),
            f"the core alone: {_percent(core_natural)}",
        ),
        Tile(
            "Answered by the robust model",
            Rate(float(c.selects.mean())),
            "the core answers the rest",
        ),
    ]
    same = (m for m in rates if m.judged is c.stage and (m.eps, m.kind) == (c.eps, c.kind))
    own = next(same, None)
    if own is not None and own.inaccurate is not None:
        tiles.append(
            Tile("Stably wrong", _rate(own.inaccurate), f"{c.stage.meta.model}, wrong and robust")
        )
    return tuple(tiles)


def _over_seeds(rates: Sequence[Measured]) -> list[str]:
    """One sentence a radius for models that were trained several times."""
    rows = repetition_table(rates).rows
    texts = []
    for radius in dict.fromkeys(row[1] for row in rows):
        told = [
            f"{name} {_spread(robust)} robust and right, {_spread(wrong)} robust and wrong"
            for name, where, _, _, robust, wrong in rows
            if where == radius
        ]
        texts.append(f"Mean and standard deviation over seeds at {radius}: {'; '.join(told)}.")
    return texts


def _spread(cell: Cell) -> str:
    shown = show(cell)
    return f"{shown.text} {shown.small}\u00a0%"


def _with_composition(best: Sequence[Composed]) -> list[str]:
    """The first radius of each data set in full, the others in one sentence."""
    texts = []
    told: set[tuple[str, str]] = set()
    for c in best:
        question = (c.stage.meta.dataset, c.stage.meta.norm)
        texts.append(_shortly(c) if question in told else _in_full(c))
        told.add(question)
    return texts


def _in_full(c: Composed) -> str:
    budget = _BUDGETS[c.stage.meta.norm].format(eps=c.eps)
    core, stage = c.core.meta.model, c.stage.meta.model
    where = "provably " if c.kind == CERTIFIED else ""
    return (
        f"On {c.samples:,} samples of {c.stage.meta.dataset}, {core} alone is right on "
        f"{_share(c.core_accurate)}, but only {_share(c.core_robust)} {where}stay right when an "
        f"attack may {budget}. Let {stage} answer where {where}no such attack changes its answer "
        f"({_share(c.selects)} of the samples) and {core} answer the rest, and "
        f"{_share(c.sound.robust)} {where}stay right ({_difference(c.gain)}). {_price(c)}"
    )


def _shortly(c: Composed) -> str:
    where = "provably " if c.kind == CERTIFIED else ""
    return (
        f"At {c.stage.meta.norm} {c.eps}, behind {c.stage.meta.model}, {_share(c.sound.robust)} "
        f"{where}stay right instead of {_share(c.core_robust)} ({_difference(c.gain)}). {_price(c)}"
    )


def _price(c: Composed) -> str:
    cost = c.cost
    now = f"{_share(c.sound.natural)}"
    if cost.estimate >= 0:
        return f"It costs no natural accuracy: {now} ({points(cost.estimate)} points)."
    return f"The price is natural accuracy: {now} ({_difference(cost)})."


def _difference(interval: Interval) -> str:
    return (
        f"{points(interval.estimate)} points, 95\u00a0% interval "
        f"{points(interval.low)} to {points(interval.high)}"
    )


def _share(mask: Mask) -> str:
    return _percent(float(mask.mean()))


def _percent(value: float, decimals: int = 1) -> str:
    """A share with its unit, never parted at the end of a line."""
    return f"{percent(value, decimals)}\u00a0%"


def _dangerous(group: Sequence[Measured]) -> str:
    """Which robust model is stably wrong least and most at one radius."""
    wrong = sorted(
        ((m.inaccurate.estimate, m) for m in group if m.inaccurate), key=lambda pair: pair[0]
    )
    if len(wrong) < 2 or wrong[0][0] == wrong[-1][0]:
        return ""
    (low, least), (high, most) = wrong[0], wrong[-1]
    return (
        f"at {least.judged.meta.norm} {least.eps}, {_percent(low, 2)} of the samples for "
        f"{least.judged.meta.model} and {_percent(high, 2)} for {most.judged.meta.model}"
    )


def _radii(rates: Sequence[Measured]) -> list[list[Measured]]:
    robust = [m for m in rates if m.judged.role not in ("core", "standard") and m.kind == ROBUST]
    keys = list(dict.fromkeys(_question(m) for m in robust))
    return [[m for m in robust if _question(m) == key] for key in keys]


def _question(m: Measured) -> tuple[str, str, str]:
    return m.judged.meta.dataset, m.judged.meta.norm, m.eps


def _without_composition(rates: Sequence[Measured]) -> list[str]:
    """The most robust model: the first radius of each data set in full, the others shortly."""
    texts = []
    told: set[tuple[str, str]] = set()
    for group in _radii(rates) or ([list(rates)] if rates else []):
        labelled = [m for m in group if m.robust and m.natural]
        if not labelled:
            continue
        top = max(labelled, key=lambda m: m.robust.estimate if m.robust else 0.0)
        question = (top.judged.meta.dataset, top.judged.meta.norm)
        texts.append(_most_robust(top, shortly=question in told))
        told.add(question)
    return texts or ["The records hold no labels: only label-free rates can be shown."]


def _most_robust(top: Measured, *, shortly: bool) -> str:
    natural = _percent(top.natural.estimate if top.natural else float("nan"))
    robust = _percent(top.robust.estimate if top.robust else float("nan"))
    name, meta = top.judged.meta.model, top.judged.meta
    if shortly:
        return f"At {meta.norm} {top.eps} it is {name}: {natural} natural, {robust} robust."
    budget = _BUDGETS[meta.norm].format(eps=top.eps)
    also = "provably also" if top.kind == CERTIFIED else "also"
    return (
        f"On {top.samples:,} samples of {meta.dataset}, the most robust model is {name}: right on "
        f"{natural}, and on {robust} {also} when an attack may {budget}."
    )


def _rate(interval: Interval | None) -> Rate | None:
    return None if interval is None else Rate(interval.estimate, interval.low, interval.high)
