"""Tables of a run's networks: alone, before the core, as selectors, and paired with each other."""

from collections.abc import Sequence

from recuse.analysis.advice import advise
from recuse.analysis.compositions import Composition
from recuse.analysis.intervals import paired_difference, wilson_of
from recuse.analysis.verdicts import Mask, Verdicts, add_radii
from recuse.report.run.advice_text import advice_in_full
from recuse.report.study.markdown import difference, share, table

Networks = dict[str, Verdicts]
START = "adversarial"


def networks(found: Networks, chains: Sequence[Composition], eps: str) -> list[str]:
    """Each network alone, and in front of the core; which system to take."""
    whole = {c.name.partition(" → ")[0]: c for c in (chain.rates for chain in chains)}
    heads = ["network", "natural", "robust", "robust inaccuracy", "before the core: natural"]
    rows = []
    for name, model in found.items():
        alone = (model.accurate(), right(model, eps), wrong(model, eps))
        cells = [name, *(share(wilson_of(mask)) for mask in alone)]
        if name in whole:
            cells += [f"{100 * whole[name].natural:.1f}", f"{100 * (whole[name].sound or 0):.1f}"]
        rows.append(cells if name in whole else [*cells, "–", "–"])
    lines = [f"## {eps}", "", *table([*heads, "before the core: robust (sound)"], rows)]
    return [*lines, advice_in_full(advise(chains)), ""]


def beside_core(chains: Sequence[Composition], eps: str) -> list[str]:
    """Every composition against its core alone: what the paper's Table 4 asks."""
    rows = []
    for chain in chains:
        core = chain.alone[-1]
        cells = [
            difference(paired_difference(getattr(account, of), getattr(core, of)))
            for account, of in (
                (chain.sound, "natural"),
                (chain.sound, "robust"),
                (chain.paper, "robust"),
            )
        ]
        rows.append([f"{chain.name} − core", *cells])
    heads = [f"difference at {eps}", "natural", "robust (sound)", "robust (the paper's count)"]
    return table(heads, rows)


def selection(found: Networks, eps: str) -> list[str]:
    """Each network behind its own indicator, and nobody after it: Figure 3 of the paper."""
    doubled = add_radii(eps, eps)
    if not all(model.has("robust", doubled) for model in found.values()):
        return []
    rows = []
    for name, model in found.items():
        sure = model.robust(doubled)
        cells = [share(wilson_of(mask)) for mask in (model.robust(eps), sure)]
        rows.append([name, *cells, share(wilson_of(model.accurate(), sure))])
    told = (
        f"Selected by the indicator of {eps}: at the image itself, and wherever it is moved within"
        f"\n{eps} (stable within {doubled}, whose differences say who selects better)."
    )
    heads = ["indicator of", "selects", "selects robustly", "right among the robustly selected"]
    return [told, "", *table(heads, rows)]


def differences(found: Networks, eps: str) -> list[str]:
    """Robust networks against those they are compared with: the start, if any, TRADES and AT.

    The TRADES and AT of a network are those trained at its radius, from its start by its seed.
    """
    rows = []
    for name, model in found.items():
        losses = (_trained_by(loss, found, name) for loss in ("trades", "at"))
        wanted = (model.tag("start") or START, *losses, _weighed_softly(found, name))
        references = [other for other in wanted if other in found]
        for place, other in enumerate(references):
            if name not in ("core", *references[: place + 1]):
                pairs = [
                    (rate(found[name], eps), rate(found[other], eps)) for rate in (right, wrong)
                ]
                cells = [difference(paired_difference(*pair)) for pair in pairs]
                rows.append([f"{name} − {other}", *cells])
    heads = [f"difference at {eps}", "robust", "robust inaccuracy"]
    return table(heads, rows) if rows else []


def _trained_by(loss: str, found: Networks, name: str) -> str:
    """The network fine-tuned by a loss alone at the radius of another, as that was otherwise."""

    def made(model: Verdicts) -> list[str]:
        return [model.tag(tag) for tag in ("trained_at", "start", "seed")]

    wanted = (
        other
        for other, model in found.items()
        if other != START and model.tag("loss") == loss and made(model) == made(found[name])
    )
    return next(wanted, "")


def _weighed_softly(found: Networks, name: str) -> str:
    """The network that differs from another by the weight of its penalty alone."""
    tags = dict(found[name].meta.tags)
    if tags.pop("penalty", None) is None:
        return ""
    return next((other for other, model in found.items() if model.meta.tags == tags), "")


def right(model: Verdicts, eps: str) -> Mask:
    """Right and unchanged within eps."""
    return model.accurate() & model.robust(eps)


def wrong(model: Verdicts, eps: str) -> Mask:
    """Wrong and unchanged within eps."""
    return ~model.accurate() & model.robust(eps)


__all__ = ["Networks", "beside_core", "differences", "networks", "right", "selection", "wrong"]
