"""The report in plain words and four numbers, the sound ones first."""

from collections.abc import Sequence

from recuse.analysis.advice import Advice
from recuse.analysis.intervals import paired_difference, wilson_of
from recuse.analysis.masking import masking_warning
from recuse.analysis.measured import CERTIFIED, ROBUST, Measured, outcomes
from recuse.analysis.metrics import rate
from recuse.analysis.winners import beats
from recuse.report.page.blocks import Cell, Tile
from recuse.report.page.values import show
from recuse.report.run.advice_text import (
    advice_in_full,
    advice_rule,
    advice_shortly,
    budget_of,
    listed,
    percentage,
    signed,
)
from recuse.report.run.tables import interval_rate, repetition_table

_TOLD = 3


def summarise(rates: Sequence[Measured], advice: Sequence[Advice]) -> tuple[str, ...]:
    """Paragraphs: what to take, what it gains and costs, what remains dangerous.

    Args:
        rates: Rates of all models.
        advice: Of each radius.
    """
    paragraphs = _advice(advice) if advice else _without_composition(rates)
    dangerous = [text for group in _radii(rates) if (text := _dangerous(group))]
    if dangerous:
        paragraphs.append(
            "Robust inaccuracy is the mistake that abstention cannot catch: "
            f"{'; '.join(dangerous[:_TOLD])}."
        )
    return (*paragraphs, *_over_seeds(rates))


def caveats(rates: Sequence[Measured], advice: Sequence[Advice]) -> tuple[str, ...]:
    """What the numbers do not say."""
    notes = []
    if advice:
        notes.append(
            "Compositions are counted soundly: an image counts as robust only if no model that "
            "an attacker can make answer there is wrong."
        )
    if any(m.kind == ROBUST for m in rates):
        attacks = sorted({met.method for m in rates if m.kind == ROBUST for met in m.model.met})
        notes.append(
            f"Robust means that an attack ({', '.join(attacks)}) found nothing, which is not a "
            "proof: a stronger attack can only lower the robust numbers."
        )
    judged = {id(m.model): m.model for m in rates if m.kind == ROBUST}
    notes += filter(None, map(masking_warning, judged.values()))
    if advice:
        notes.append(advice_rule(max(entry.choices for entry in advice)))
    return tuple(notes)


def headline(advice: Sequence[Advice], rates: Sequence[Measured]) -> tuple[Tile, ...]:
    """The numbers that matter, at the first radius."""
    if advice:
        return _advised_tiles(advice[0], rates)
    robust = [m for m in rates if m.robust and m.model.role not in ("core", "standard")]
    if not robust:
        return ()
    top = max(robust, key=lambda m: m.robust.estimate if m.robust else 0.0)
    where = f"{top.model.meta.model}, {top.model.meta.norm} {top.eps}"
    where += ", certified" if top.kind == CERTIFIED else ""
    tiles = [
        Tile("Natural accuracy", interval_rate(top.natural), where),
        Tile("Robust accuracy", interval_rate(top.robust), where, tone="good"),
        Tile("Robust inaccuracy", interval_rate(top.robust_inaccuracy), where, tone="bad"),
    ]
    return tuple(tile for tile in tiles if tile.value is not None)


def _advised_tiles(advice: Advice, rates: Sequence[Measured]) -> tuple[Tile, ...]:
    """The recommended system, each number beside those of what it was chosen over."""
    taken, core = advice.taken, advice.core
    beside = [*([] if taken is core else [core]), *advice.others]
    word = "proven" if advice.kind == CERTIFIED else "sound"
    radius = f"{core.models[0].meta.norm} {advice.eps}"
    natural, robust = wilson_of(taken.account.natural), wilson_of(taken.account.robust)
    worse = any(rate(s.account.robust) >= robust.estimate for s in beside)
    tiles = [
        Tile("Recommended", taken.title, f"chosen among {advice.choices} systems"),
        Tile(
            f"Robust accuracy, {word}, {radius}",
            interval_rate(robust),
            "; ".join(f"{s.title}: {percentage(rate(s.account.robust))}" for s in beside),
            tone="plain" if worse else "good",
        ),
        Tile(
            "Natural accuracy",
            interval_rate(natural),
            "; ".join(f"{s.title}: {percentage(rate(s.account.natural))}" for s in beside),
        ),
    ]
    first = taken.models[0].meta
    own = [
        m
        for m in rates
        if (m.model.meta.model, m.model.meta.weights) == (first.model, first.weights)
        and (m.eps, m.kind) == (advice.eps, advice.kind)
    ]
    if own and own[0].robust_inaccuracy is not None:
        note = f"{first.model}, wrong and robust"
        tiles.append(Tile("Robust inaccuracy", interval_rate(own[0].robust_inaccuracy), note))
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


def _advice(advice: Sequence[Advice]) -> list[str]:
    """The first radius of each data set in full, the others shortly."""
    texts = []
    told: set[tuple[str, str]] = set()
    for entry in advice:
        meta = entry.core.models[0].meta
        question = (meta.dataset, meta.norm)
        texts.append(advice_shortly(entry) if question in told else advice_in_full(entry))
        told.add(question)
    return texts


def _dangerous(group: Sequence[Measured]) -> str:
    """Which model has least and most robust inaccuracy at one radius, if they can be told."""
    wrong = sorted(
        ((m.robust_inaccuracy.estimate, m) for m in group if m.robust_inaccuracy),
        key=lambda pair: pair[0],
    )
    if len(wrong) < 2 or wrong[0][0] == wrong[-1][0]:
        return ""
    (low, least), (high, most) = wrong[0], wrong[-1]
    few, many = outcomes(least)[2], outcomes(most)[2]
    if few is None or many is None or not beats(few, many, smallest=True):
        return ""
    over = paired_difference(few.holds, many.holds)
    return (
        f"at {least.model.meta.norm} {least.eps}, {percentage(low, 2)} of the samples for "
        f"{least.model.meta.model} and {percentage(high, 2)} for {most.model.meta.model}, "
        f"a difference of {signed(over)}"
    )


def _radii(rates: Sequence[Measured]) -> list[list[Measured]]:
    robust = [m for m in rates if m.model.role not in ("core", "standard") and m.kind == ROBUST]
    keys = list(dict.fromkeys(_question(m) for m in robust))
    return [[m for m in robust if _question(m) == key] for key in keys]


def _question(m: Measured) -> tuple[str, str, str]:
    return m.model.meta.dataset, m.model.meta.norm, m.eps


def _without_composition(rates: Sequence[Measured]) -> list[str]:
    """The most robust model: the first radius of each data set in full, the others shortly."""
    texts = []
    told: set[tuple[str, str]] = set()
    for group in _radii(rates) or ([list(rates)] if rates else []):
        labelled = [m for m in group if m.robust and m.natural]
        if not labelled:
            continue
        top = max(labelled, key=lambda m: m.robust.estimate if m.robust else 0.0)
        question = (top.model.meta.dataset, top.model.meta.norm)
        texts.append(_most_robust(top, _tied(top, labelled), shortly=question in told))
        told.add(question)
    return texts or ["The records hold no labels: only label-free rates can be shown."]


def _tied(top: Measured, others: Sequence[Measured]) -> list[str]:
    """Models whose robust accuracy these samples do not tell from the top one's."""
    best = outcomes(top)[1]
    rivals = [(m, outcomes(m)[1]) for m in others if m is not top]
    return [
        m.model.meta.model
        for m, rival in rivals
        if best is None or rival is None or not beats(best, rival)
    ]


def _most_robust(top: Measured, tied: Sequence[str], *, shortly: bool) -> str:
    natural = percentage(top.natural.estimate if top.natural else float("nan"))
    robust = percentage(top.robust.estimate if top.robust else float("nan"))
    name, meta = top.model.meta.model, top.model.meta
    apart = f" These samples do not tell it from {listed(tied)}." if tied else ""
    if shortly:
        return f"At {meta.norm} {top.eps} it is {name}: {natural} natural, {robust} robust.{apart}"
    budget = budget_of(meta.norm, top.eps)
    also = "provably also" if top.kind == CERTIFIED else "also"
    return (
        f"On {top.samples:,} samples of {meta.dataset}, the most robust model is {name}: right on "
        f"{natural}, and on {robust} {also} when an attack may {budget}.{apart}"
    )
