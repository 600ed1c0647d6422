"""An audit in plain words: what was found, what it means, and the next command to type."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recuse.analysis.accounting import difference
from recuse.analysis.audit import Audit, Finding
from recuse.analysis.intervals import Interval
from recuse.analysis.masking import masking_warning, second_look
from recuse.analysis.measured import Measured
from recuse.analysis.verdicts import Verdicts
from recuse.records.store import slug
from recuse.report.page.blocks import percent
from recuse.report.run.advice_text import (
    advice_in_full,
    budget_of,
    only_better_in,
    percentage,
    signed,
)

# An interval of 20 points says little.
_WIDE = 0.2


@dataclass(frozen=True)
class Asked:
    """An audit as it was asked for, so that the next command can be typed as it stands.

    Attributes:
        model: The network.
        data: The images, with the words that choose among them.
        threat: ``norm:eps``.
        out: The run folder.
        core: The core; empty where none was given.
        stored: Whether every network has a card, so that it can be trained on and built from.
        reading: The words that say how the images are read.
    """

    model: str
    data: tuple[str, ...]
    threat: str
    out: str
    core: str = ""
    stored: bool = True
    reading: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slope:
    """How fast a network's output changes near its images: means of the steepest slopes found.

    Attributes:
        model: The network.
        images: How many images were looked at.
        logits: Change of all logits together, per unit of the norm.
        probabilities: The same of the softmax.
    """

    model: str
    images: int
    logits: float
    probabilities: float


def rates_in_words(audit: Audit) -> str:
    """Natural and robust accuracy, and robust inaccuracy, at both radii."""
    near, far, meta = audit.near, audit.far, audit.network.meta
    few = (
        f" With {near.samples:,} images these intervals are wide; judge more before you decide."
        if _width(near.robust) > _WIDE
        else ""
    )
    return (
        f"On {near.samples:,} images of {meta.dataset}, {meta.model} is right on "
        f"{_rate(near.natural)}. When an attack ({attacks_on(audit.network)}) may "
        f"{budget_of(meta.norm, near.eps)}, it stays right on {_rate(near.robust)}, and "
        f"within {far.eps} on {_rate(far.robust)}. On "
        f"{_rate(near.robust_inaccuracy)} it is wrong and the attack does not change its answer "
        f"({_rate(far.robust_inaccuracy)} within {far.eps}): no check of robustness can catch "
        f"these mistakes.{few}"
    )


def attacks_on(model: Verdicts) -> str:
    """Every attack that met a network."""
    return ", ".join(sorted({meta.method for meta in model.met}))


def trust_in_words(model: Verdicts, eps: str) -> str:
    """Whether the attack met signs of a hidden gradient."""
    unknown = int(model.not_judged(eps).sum())
    lost = (
        f" {unknown:,} of {model.samples:,} images could not be judged at all, because the attack "
        "had no usable gradient there; they count as not robust, and an indicator selects none of "
        "them."
        if unknown
        else ""
    )
    if warning := masking_warning(model):
        return f"{warning[0].upper()}{warning[1:]}.{lost}"
    looked = second_look(model).looked
    held = (
        f"Of {looked} answers of {model.meta.model} that were called robust, searched again with "
        "fewer steps and without gradients, and asked twice, none changed: there is no sign of a "
        "hidden gradient. A stronger attack can still lower the robust numbers."
        if looked
        else f"None of the first answers of {model.meta.model} was robust, so that none could be "
        "searched again for a hidden gradient."
    )
    return f"{held}{lost}"


def slopes_in_words(slopes: Sequence[Slope]) -> str:
    """How smooth each network is."""
    found = " and ".join(
        f"{s.logits:.3g} in the logits and {s.probabilities:.3g} in the probabilities for {s.model}"
        for s in slopes
    )
    return (
        f"The steepest slope found near {slopes[0].images} images is, in the mean, {found} (change "
        "of all outputs together per unit of the norm; less is smoother)."
    )


def indicator_in_words(near: Measured) -> str:
    """What a robustness indicator would select, at the image and wherever it is moved."""
    if near.right_if_stable is None:
        return "A robustness indicator of this radius would select no image."
    surely = (
        "none stays selected wherever an attack moves it"
        if near.precision is None
        else f"{_rate(near.selected)} of the images stay selected wherever an attack moves them "
        f"(unchanged at twice the radius), and of these {_rate(near.precision)} are answered "
        "rightly"
    )
    return (
        f"A robustness indicator of this radius would select {_rate(near.stable)} of the images, "
        f"and of these {_rate(near.right_if_stable)} are answered rightly; {surely}."
    )


def core_in_words(audit: Audit) -> str:
    """What the core adds, or at most could add."""
    if audit.advice is not None:
        return advice_in_full(audit.advice)
    added = audit.at_most
    return (
        "An accurate core behind the indicator could add at most "
        f"{signed(added.natural)} of natural accuracy and, counted soundly, {signed(added.robust)} "
        "of robust accuracy. That is an upper bound, of a core that is never wrong and cannot be "
        "attacked; --core measures a real one."
    )


_VERDICTS: Mapping[Finding, str] = {
    "hidden": (
        "Do not trust the robust numbers yet: attack the network by more than its gradient, into "
        "the same folder, and audit it again; what any attack breaks then counts."
    ),
    "guessing": (
        "The network does no better than guessing on these images, so that nothing else matters "
        "yet: look whether they are the images, the size and the classes it was trained on, and "
        "whether it normalises its input itself."
    ),
    "composition": (
        "Compose them{unless}: build the system, which measures itself on images of its own."
    ),
    "alone": (
        "Do not compose with this core{unless}. If the network should abstain where it is not "
        "robust, build a system without a core."
    ),
    "core": (
        "Do not compose this network with this core{unless}. Train it to be robust where it is "
        "right and fragile where it is wrong, and audit it again."
    ),
    "enough": (
        "It is right and robust nearly everywhere, and needs no core. If it should abstain on the "
        "rest, build a system without one."
    ),
    "fragile": (
        "It is accurate but fragile: an attack takes most of its right answers. Use it as a core, "
        "and train a copy of it to be robust where it is right and fragile where it is wrong."
    ),
    "stubborn": (
        "Most of its mistakes are stable, and an indicator lets them pass. Train it to be fragile "
        "where it is wrong, so that a check of robustness throws its mistakes out."
    ),
    "stage": (
        "Most of its mistakes are fragile, so that a check of robustness throws them out: it is a "
        "good stage in front of an accurate core. Audit it with one."
    ),
}


def verdict_in_words(audit: Audit, asked: Asked) -> str:
    """What to do about it."""
    spoken = _VERDICTS[audit.finding].format(unless=_unless(audit))
    if asked.stored or audit.finding not in _NEEDS_CHECKPOINT:
        return spoken
    return (
        f"{spoken} {asked.model} has no card, without which it cannot be trained or stored from "
        "here: import its weights first (recuse models import)."
    )


def _unless(audit: Audit) -> str:
    """For whom the other choice, the composition or its stage alone, would be the better one."""
    if audit.advice is None:
        return ""
    other, taken = audit.advice.others[0], audit.advice.taken
    better = only_better_in(difference(other.account, taken.account))
    return f", unless {better} accuracy counts most" if better else ""


def next_command(audit: Audit, asked: Asked) -> str:
    """The command to type next, as a shell takes it; CORE stands for a network of yours."""
    named = (asked.data[0], *asked.reading)
    data = ("--data", *named, *asked.data[1:])
    name = slug(audit.network.meta.model)
    trained = ("--objective", "era", "--threat", asked.threat, "--out", f"runs/{name}-era")
    built = ("--threat", asked.threat, *data, "--out", f"systems/{name}")
    again = ("--threat", asked.threat, "--out", asked.out)
    train = ("train", asked.model, "--data", *named, *trained)
    build = ("build", "--stage", asked.model)
    words: Mapping[Finding, tuple[str, ...]] = {
        "hidden": ("evaluate", asked.model, *data, "--attack", "ensemble", *again),
        "guessing": ("data", "show", *named, "--out", f"{asked.out}/images.png"),
        "composition": (*build, "--core", asked.core, *built),
        "alone": (*build, "--no-core", *built),
        "enough": (*build, "--no-core", *built),
        "core": train,
        "fragile": train,
        "stubborn": train,
        "stage": ("audit", asked.model, *data[1:], "--core", "CORE", *again),
    }
    return shlex.join(["recuse", *words[audit.finding]])


_NEEDS_CHECKPOINT = frozenset({"composition", "alone", "enough", "core", "fragile", "stubborn"})


def paragraph(audit: Audit, slopes: Sequence[Slope], asked: Asked) -> str:
    """All of it in one paragraph."""
    return " ".join(
        (
            rates_in_words(audit),
            trust_in_words(audit.network, audit.near.eps),
            slopes_in_words(slopes),
            indicator_in_words(audit.near),
            core_in_words(audit),
            verdict_in_words(audit, asked),
            f"Next: {next_command(audit, asked)}",
        )
    )


def _rate(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    between = f"{percent(interval.low)} to {percent(interval.high)}"
    return f"{percentage(interval.estimate)} ({between})"


def _width(interval: Interval | None) -> float:
    return 1.0 if interval is None else interval.high - interval.low


__all__ = [
    "Asked",
    "Slope",
    "attacks_on",
    "core_in_words",
    "indicator_in_words",
    "next_command",
    "paragraph",
    "rates_in_words",
    "slopes_in_words",
    "trust_in_words",
    "verdict_in_words",
]
