"""The marks of the model figures, from the rates of a report's records."""

from collections.abc import Sequence
from dataclasses import replace

from recuse.analysis.abstainers import thresholded
from recuse.analysis.compositions import Composition
from recuse.analysis.evidence import network_of
from recuse.analysis.intervals import Interval
from recuse.analysis.measured import CERTIFIED, ROBUST, Measured
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Verdicts
from recuse.report.charts.curves import CertifiedCurve
from recuse.report.charts.marks import Mark
from recuse.report.charts.plots import ATTACKED, CORE, PAPER, SINGLE, SOUND, SplitBar

_PLAIN = ("core", "standard")
# Tags in which the networks of one line agree, beside their radius of training.
_SAME = ("augmentation", "seed", "robust_loss", "penalty", "start")


def panel(judged: Verdicts, eps: str, everyone: Sequence[Verdicts]) -> str:
    """Radius, and whatever else tells the panels of one report apart."""
    parts = [f"{judged.meta.norm} {eps}"]
    if len({v.meta.dataset for v in everyone}) > 1:
        parts.insert(0, judged.meta.dataset)
    bases = {m.tag("base") for m in everyone if m.role == "robust"}
    # A model without a base is compared with all others, so that it needs their panel.
    if len(bases) > 1 and "" not in bases and judged.tag("base"):
        parts.append(judged.tag("base"))
    return ", ".join(parts)


def hover(judged: Verdicts, eps: str, *, model: str = "") -> dict[str, str]:
    """What the hover of a mark says of its model."""
    known = {
        "model": model or judged.meta.model,
        "run": judged.run,
        "β": judged.tag("beta"),
        "ε": f"{judged.meta.norm} {eps}",
        "training ε": _trained_at(judged),
        "base": judged.tag("base"),
    }
    return {name: text for name, text in known.items() if text}


def inaccuracy_marks(rates: Sequence[Measured]) -> list[Mark]:
    """Robust accuracy over robust inaccuracy of every robust model, joined over beta."""
    everyone = [m.model for m in rates]
    marks = [
        Mark(
            x=m.robust_inaccuracy.estimate,
            y=m.robust.estimate,
            series=m.model.loss,
            panel=panel(m.model, m.eps, everyone),
            trail=_trail(m),
            order=_order(m.model),
            label=_label(m.model),
            hover=hover(m.model, m.eps),
            x_interval=_ends(m.robust_inaccuracy),
            y_interval=_ends(m.robust),
        )
        for m in rates
        if m.kind == ROBUST and m.robust_inaccuracy and m.robust and m.model.role not in _PLAIN
    ]
    return distinct_labels(marks)


def selective_marks(rates: Sequence[Measured], models: Sequence[Verdicts]) -> list[Mark]:
    """Right among the robustly selected over robust selection: RI, and SR and SN where judged."""
    indicator = [
        Mark(
            x=m.selected.estimate,
            y=m.precision.estimate,
            series=f"{m.model.loss} RI",
            panel=panel(m.model, m.eps, models),
            trail=_trail(m),
            order=_order(m.model),
            label=_label(m.model),
            hover=hover(m.model, m.eps) | {"selector": "robustness indicator"},
        )
        for m in rates
        if m.kind == ROBUST and m.selected and m.precision and m.model.role not in _PLAIN
    ]
    others = [mark for m in rates if m.kind == ROBUST for mark in _scored(m, models)]
    return distinct_labels(indicator + others)


def composition_marks(rates: Sequence[Measured], compositions: Sequence[Composition]) -> list[Mark]:
    """Natural and robust accuracy of cores, robust models, and their compositions."""
    everyone = [m.model for m in rates]
    cores: dict[tuple[str, int], Mark] = {}
    for c in compositions:
        where = panel(c.stage, c.eps, everyone)
        cores.setdefault((where, id(c.core)), _core_mark(c, where))
    stages = {(c.eps, network_of(c.stage)) for c in compositions}
    single = [
        Mark(
            x=m.natural.estimate,
            y=m.robust.estimate,
            series=m.model.loss,
            kind=SINGLE,
            panel=panel(m.model, m.eps, everyone),
            hover=hover(m.model, m.eps),
        )
        for m in rates
        if m.kind == ROBUST and m.natural and m.robust and (m.eps, network_of(m.model)) in stages
    ]
    composed = [mark for c in compositions for mark in _composition_marks(c, everyone)]
    return distinct_labels([*cores.values(), *single, *composed])


def distinct_labels(marks: Sequence[Mark]) -> list[Mark]:
    """The marks without labels that occur twice in a panel: those say no more than the legend."""
    seen = [(m.panel, m.label) for m in marks]
    counts = {key: seen.count(key) for key in set(seen)}
    return [m if counts[m.panel, m.label] == 1 else replace(m, label="") for m in marks]


def split_bars_of(rates: Sequence[Measured]) -> list[SplitBar]:
    """The four splits of every labelled model, a panel a radius."""
    everyone = [m.model for m in rates]
    runs = {m.model.run for m in rates}
    return [
        SplitBar(
            model=m.model.meta.model if len(runs) == 1 else f"{m.model.run}: {m.model.meta.model}",
            panel=_split_panel(m, everyone),
            shares=(
                m.splits.robust_accurate,
                m.splits.fragile_accurate,
                m.splits.fragile_inaccurate,
                m.splits.robust_inaccurate,
            ),
        )
        for m in rates
        if m.splits
    ]


def certified_curves(models: Sequence[Verdicts]) -> list[CertifiedCurve]:
    """Certificates of every record that holds certified radii and labels."""
    return [
        CertifiedCurve(m.meta.model, m.meta.norm, m.values("radius"), m.accurate())
        for m in models
        if "radius" in m.frame.columns and m.labelled
    ]


def _split_panel(m: Measured, everyone: Sequence[Verdicts]) -> str:
    dataset = m.model.meta.dataset
    parts = [f"{m.model.meta.norm} {m.eps}"]
    if len({v.meta.dataset for v in everyone}) > 1:
        parts.insert(0, dataset)
    return ", ".join(parts) + (", certified" if m.kind == CERTIFIED else "")


def _core_mark(c: Composition, where: str) -> Mark:
    return Mark(
        x=rate(c.alone[-1].natural),
        y=rate(c.alone[-1].robust),
        series="core",
        kind=CORE,
        panel=where,
        label="core",
        hover=hover(c.core, c.eps),
    )


def _composition_marks(c: Composition, everyone: Sequence[Verdicts]) -> list[Mark]:
    counted = [
        (SOUND, rate(c.sound.natural), rate(c.sound.robust), "sound"),
        (PAPER, rate(c.paper.natural), rate(c.paper.robust), "the paper's"),
    ]
    if c.attacked is not None:
        counted.append((ATTACKED, rate(c.sound.natural), c.attacked, "attacked"))
    return [
        Mark(
            x=natural,
            y=robust,
            series=c.stage.loss,
            kind=kind,
            panel=panel(c.stage, c.eps, everyone),
            trail=f"{c.stage.run}/{c.name}/{c.eps}",
            order=float(place),
            label=_label(c.stage) if kind == SOUND else "",
            hover=hover(c.stage, c.eps, model=c.name) | {"accounting": accounting},
        )
        for place, (kind, natural, robust, accounting) in enumerate(counted)
    ]


def _scored(m: Measured, models: Sequence[Verdicts]) -> list[Mark]:
    """Softmax response over its thresholds, and a selection network at its own."""
    model, eps = m.model, m.eps
    if not model.labelled:
        return []
    where, says = panel(model, eps, models), hover(model, eps)
    names = {"SN": "selection network", "SR": "softmax response"}
    marks = []
    for found in thresholded(model, models, eps):
        tau = {} if found.tau is None else {"τ": f"{found.tau:.2f}"}
        marks.append(
            Mark(
                x=found.selection,
                y=found.accuracy,
                series=f"{model.loss} {found.method}",
                panel=where,
                trail=f"SR/{model.run}/{model.meta.model}/{eps}" if tau else "",
                order=found.tau or 0.0,
                hover=says | {"selector": names[found.method], **tau},
            )
        )
    return marks


def _trail(m: Measured) -> str:
    judged = m.model
    if judged.meta.tags.get("beta") is None:
        return ""
    parts = (judged.run, judged.meta.dataset, judged.tag("base"), judged.loss, m.eps)
    varied = (_trained_at(judged), *map(judged.tag, _SAME))
    return "/".join((*parts, *varied))


def _trained_at(judged: Verdicts) -> str:
    """The radius of training: the paper's logs and the recipes name it by different tags."""
    return judged.tag("train_eps") or judged.tag("trained_at")


def _order(judged: Verdicts) -> float:
    beta = judged.meta.tags.get("beta")
    return float(beta) if isinstance(beta, int | float) else 0.0


def _label(judged: Verdicts) -> str:
    beta = judged.tag("beta")
    return f"β={beta}" if beta else judged.loss


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high
