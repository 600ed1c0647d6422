"""Models that may abstain, whatever selects for them: one form for RI, SR and SN.

The robustness indicator (RI) keeps an input where no perturbation changes the answer, softmax
response (SR) where the confidence is high, a selection network (SN) where a second network
accepts. All three become a :class:`StageVerdicts`, so that selection, selective accuracy and
compositions are counted by the same code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recuse.analysis.accounting import (
    Account,
    CoreVerdicts,
    StageVerdicts,
    paper_account,
    sound_account,
)
from recuse.analysis.comparable import check_comparable
from recuse.analysis.compositions import stage_of
from recuse.analysis.mechanisms import confidence_stage
from recuse.analysis.metrics import rate, share
from recuse.analysis.verdicts import Mask, Verdicts, add_radii
from recuse.errors import RecordError
from recuse.radius import parse_radius

Method = Literal["RI", "SR", "SN"]
# The paper's thresholds of softmax response.
TAUS = tuple(float(t) for t in np.linspace(0.0, 0.99, 10))


@dataclass(frozen=True)
class Abstainer:
    """A classifier with a selector, judged at one radius.

    Attributes:
        method: How it selects.
        eps: The attacker's radius.
        stage: Verdicts per sample.
        tau: Threshold, where there is one.
    """

    method: Method
    eps: str
    stage: StageVerdicts
    tau: float | None = None

    @property
    def selection(self) -> float:
        """Robust selection: share of samples kept everywhere in the ball."""
        return rate(self.stage.surely_selects)

    @property
    def accuracy(self) -> float:
        """Robust and right among the robustly selected; NaN where nothing is."""
        return share(self.stage.accurate & self.stage.robust, self.stage.surely_selects)

    @property
    def inaccuracy(self) -> float:
        """Robust and wrong among the robustly selected; NaN where nothing is."""
        return share(~self.stage.accurate & self.stage.robust, self.stage.surely_selects)

    @property
    def false_abstention(self) -> float:
        """Share of the right answers at x on which the selector abstains."""
        return share(~self.stage.selects, self.stage.accurate)

    @property
    def coverage(self) -> float:
        """Share of samples kept at x itself."""
        return rate(self.stage.selects)

    @property
    def risk(self) -> float:
        """Share of wrong answers among those kept at x; NaN where nothing is."""
        return share(~self.stage.accurate, self.stage.selects)

    def paper(self, core: CoreVerdicts) -> Account:
        """The 2-composition with ``core`` by the paper's count."""
        return paper_account([self.stage], core, doubled_natural=self.method == "RI")

    def natural(self, core: CoreVerdicts) -> Mask:
        """Right answers of the deployed 2-composition with ``core``."""
        return sound_account([self.stage], core).natural

    def sound(self, core: CoreVerdicts) -> Mask | None:
        """Lower bound on where the 2-composition with ``core`` is robust; None without one.

        Softmax response has none here: what it takes is the smallest probability of the true
        class and the largest of another one within the attacker's ball. Logs of an attack on the
        confidence hold neither.
        """
        return None if self.method == "SR" else sound_account([self.stage], core).robust


def thresholded(model: Verdicts, models: Sequence[Verdicts], eps: str) -> list[Abstainer]:
    """Its own selector, and softmax response at every threshold, as far as they were judged.

    Args:
        model: Judged at eps.
        models: Among them may be an attack on the confidence of the same network.
        eps: The attacker's radius.
    """
    found = []
    if "selected" in model.frame.columns and model.has("selected_robust", eps):
        found.append(network(model, eps))
    double = add_radii(eps, eps)
    beside = (
        m
        for m in models
        if (m.run, m.meta.model) == (model.run, model.meta.model)
        and m.has("adv_confidence", double)
        and m.ids.equals(model.ids)
    )
    confidence = next(beside, None)
    if confidence is not None:
        found += [response(model, confidence, eps, tau) for tau in TAUS]
    return found


def indicator(model: Verdicts, eps: str) -> Abstainer:
    """Robustness indicator of radius eps; robust selection needs verdicts at twice eps.

    Raises:
        RecordError: Not judged at eps and twice eps, or without labels.
    """
    return Abstainer("RI", eps, stage_of(model, eps))


def response(model: Verdicts, confidence: Verdicts, eps: str, tau: float) -> Abstainer:
    """Softmax response: keep where the confidence is at least tau.

    Args:
        model: Judged by an attack on the answer, at eps.
        confidence: The same model judged by an attack on the confidence, at twice eps.
        eps: The attacker's radius.
        tau: Threshold.

    Raises:
        RecordError: A radius that was not judged, or different samples.
    """
    check_comparable([model, confidence])
    robust = model.robust(eps)
    stage = confidence_stage(
        model.accurate(),
        robust,
        confidence.confidence() >= tau,
        confidence.adv_confidence(add_radii(eps, eps)) >= tau,
    )
    return Abstainer("SR", eps, stage, tau=tau)


def network(model: Verdicts, eps: str, *, certified: bool = False) -> Abstainer:
    """Selection network, whose verdict in the ball was judged at eps or a larger radius.

    Args:
        model: With a selector of its own.
        eps: The attacker's radius.
        certified: Use what was proven instead of what was attacked.

    Raises:
        RecordError: No selector of its own, or not judged at eps or beyond.
    """
    kind = "selected_certified" if certified else "selected_robust"
    wide = [r for r in model.radii(kind) if parse_radius(r) >= parse_radius(eps)]
    if not wide:
        raise RecordError(
            f"record of {model.meta.model!r} has no column '{kind}@R' with R >= {eps}"
        )
    robust = model.certified(eps) if certified else model.robust(eps)
    sure = np.asarray(model.frame[f"{kind}@{wide[0]}"].to_numpy(), dtype=np.bool_)
    stage = confidence_stage(model.accurate(), robust, model.selected(), sure)
    return Abstainer("SN", eps, stage)
