"""One composition counted at one radius: sample by sample, beside each of its members alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from recuse.analysis.accounting import (
    Account,
    CoreVerdicts,
    StageVerdicts,
    paper_account,
    sound_account,
)
from recuse.analysis.adversaries import Attacked, attacked
from recuse.analysis.comparable import check_comparable
from recuse.analysis.deployed import Promise, promise, promise_alone, smoothed
from recuse.analysis.mechanisms import indicator_stage
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Kind, Mask, Verdicts, add_radii
from recuse.errors import RecordError
from recuse.records.schema import Record


@dataclass(frozen=True, eq=False)
class Composition:
    """Robust models in the order in which they answer, then a core, counted.

    Every selector's radius is the attacker's, eps; "sure" selection therefore asks twice eps, or
    what the promise of a certified stage needs.

    Attributes:
        members: The stages, then the core.
        eps: The attacker's radius.
        kind: What the verdicts rest on.
        sound: Outcome per sample as deployed: a lower bound as strong as the verdicts, without
            what adversaries of the whole composition broke.
        paper: Outcome per sample by the paper's way of counting.
        alone: Each member by itself, in the order of ``members``.
        left: Samples that every stage leaves to the core.
        met: What adversaries of the whole composition found; None where there was none.
        refuted: Samples that the members' verdicts alone would have counted in ``sound``.
        promises: By certificates: what each stage proves as it is deployed.
        promises_alone: By certificates: what each member proves by itself.
        known: Robust accuracy against an attack on the composition, where the rows behind it are
            not at hand.
    """

    members: tuple[Verdicts, ...]
    eps: str
    kind: Kind
    sound: Account
    paper: Account
    alone: tuple[Account, ...]
    left: Mask
    met: Attacked | None
    refuted: Mask
    promises: tuple[Promise, ...] = ()
    promises_alone: tuple[Promise, ...] = ()
    known: float | None = None

    @property
    def name(self) -> str:
        """``stage → … → core``."""
        return " → ".join(model.meta.model for model in self.members)

    @property
    def promised(self) -> Promise:
        """What stands behind the sound count by certificates, every stage's chances added."""
        return Promise(
            alpha=sum((p.alpha for p in self.promises), start=0.0),
            beta=sum((p.beta for p in self.promises), start=0.0),
            lacking=next((p.lacking for p in self.promises if p.lacking), ""),
        )

    @property
    def lacking(self) -> str:
        """Why the records do not support the sound count; empty where they do."""
        return self.promised.lacking

    @property
    def stage(self) -> Verdicts:
        """The model that is asked first."""
        return self.members[0]

    @property
    def core(self) -> Verdicts:
        """The model that always answers."""
        return self.members[-1]

    @property
    def attacked(self) -> float | None:
        """Robust accuracy against attacks on the composition itself, if there were any."""
        return self.known if self.met is None else rate(self.met.survived[self.met.attacked])

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.left.size)

    def promised_alone(self, place: int) -> Promise:
        """What stands behind the robust count of a member by itself."""
        return self.promises_alone[place] if self.promises_alone else Promise()

    @property
    def rates(self) -> "Rates":
        """Its rates."""
        lacking = self.lacking
        return Rates(
            name=self.name,
            eps=self.eps,
            natural=rate(self.sound.natural),
            sound=None if lacking else rate(self.sound.robust),
            paper=rate(self.paper.robust),
            paper_natural=rate(self.paper.natural),
            core_share=rate(self.left),
            alone=tuple(self._alone(place) for place in range(len(self.members))),
            kind=self.kind,
            attacked=self.attacked,
            images=0 if self.met is None else int(self.met.attacked.sum()),
            refuted=int(self.refuted.sum()),
            failure=self.promised.failure,
            lacking=lacking,
        )

    def _alone(self, place: int) -> "Alone":
        account, promised = self.alone[place], self.promised_alone(place)
        robust = None if promised.lacking else rate(account.robust)
        name = self.members[place].meta.model
        return Alone(name, rate(account.natural), robust, promised.failure)


@dataclass(frozen=True)
class Alone:
    """Rates of one member by itself, each in [0, 1].

    Attributes:
        name: The model.
        natural: Its natural accuracy.
        robust: Its robust accuracy, by the verdicts that the composition is counted with; None
            where certificates count and it has none.
        failure: By certificates: probability, per image, that it does otherwise than counted.
    """

    name: str
    natural: float
    robust: float | None
    failure: float = 0.0


@dataclass(frozen=True)
class Rates:
    """Rates of one composition at one radius, each in [0, 1].

    Attributes:
        name: ``stage → … → core``.
        eps: The attacker's radius.
        natural: Accuracy of the deployed composition on unperturbed images.
        sound: Lower bound on its robust accuracy: proven where ``kind`` is ``"certified"``, else
            as strong as the attacks behind the records and on the composition: what any of them
            broke is not counted. None where the records do not support it.
        paper: Robust accuracy by the paper's way of counting.
        paper_natural: Natural accuracy by the paper's way of counting.
        core_share: Share of the images that every stage leaves to the core.
        alone: The members by themselves, the core last.
        kind: What the verdicts rest on: ``"robust"`` (attacks found nothing) or ``"certified"``.
        attacked: Share of the attacked images on which no adversary of the whole composition found
            a wrong answer; None where none was tried.
        images: How many images were attacked so.
        refuted: Of those, how many the records alone would have counted in ``sound``.
        failure: By certificates: probability, per image, that a stage that draws votes does
            otherwise than it is counted (alpha + beta of every stage).
        lacking: Why there is no sound number.
    """

    name: str
    eps: str
    natural: float
    sound: float | None
    paper: float
    paper_natural: float
    core_share: float
    alone: tuple[Alone, ...]
    kind: Kind = "robust"
    attacked: float | None = None
    images: int = 0
    refuted: int = 0
    failure: float = 0.0
    lacking: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON values; without what an attack would say where there was none."""
        plain = asdict(self) | {"alone": [asdict(member) for member in self.alone]}
        if self.attacked is None:
            del plain["attacked"], plain["images"], plain["refuted"]
        if self.kind == "robust":
            del plain["failure"], plain["lacking"]
        return plain


def count_composition(
    members: Sequence[Verdicts], eps: str, kind: Kind, attacks: Sequence[Record] = ()
) -> Composition:
    """Count a composition of models that were judged apart.

    Args:
        members: The stages in order, then the core, judged on the same samples.
        eps: The attacker's radius, which is the selectors' radius too.
        kind: Count with attacks or with certificates.
        attacks: Records of attacks on whole compositions; those on other ones are passed over,
            and by certificates none counts.

    Raises:
        RecordError: Different samples, or a verdict that is needed was not recorded.
    """
    check_comparable(members)
    proven = kind == "certified"
    stages = [stage_of(model, eps, kind) for model in members[:-1]]
    doubled = [stage_of(model, eps, kind, doubled=True) for model in members[:-1]]
    core = core_of(members[-1], eps, kind)
    left = np.ones_like(core.accurate)
    for stage in stages:
        left = left & ~stage.selects
    sound = sound_account(stages, core)
    met = attacked(members, attacks, eps) if kind == "robust" else None
    refuted = np.zeros_like(left) if met is None else met.refutes(sound.robust)
    return Composition(
        members=tuple(members),
        eps=eps,
        kind=kind,
        sound=replace(sound, robust=sound.robust & ~refuted),
        paper=paper_account(doubled, core),
        alone=tuple(_alone(model, eps, kind) for model in members),
        left=left,
        met=met,
        refuted=refuted,
        promises=tuple(promise(m, eps) for m in members[:-1] if proven),
        promises_alone=tuple(promise_alone(m, eps) for m in members if proven),
    )


def stage_of(
    model: Verdicts, eps: str, kind: Kind = "robust", *, doubled: bool = False
) -> StageVerdicts:
    """A model behind its own robustness indicator of radius eps, attacked within eps.

    Args:
        model: Judged at eps and twice eps.
        eps: Of the selector and of the attacker.
        kind: What counts. Certificates count the stage as it is deployed: where its record
            promises nothing, it never surely selects.
        doubled: Take twice eps for sure selection whatever is deployed, as the paper does.

    Raises:
        RecordError: Not judged at eps and twice eps, or without labels.
    """
    stable, twice = model.stable(kind, eps), model.stable(kind, add_radii(eps, eps))
    if kind == "certified" and not doubled:
        needed = promise(model, eps).radius
        twice = model.certified(needed) if needed else np.zeros_like(stable)
    return indicator_stage(model.accurate(), stable, stable, twice)


def core_of(model: Verdicts, eps: str, kind: Kind = "robust") -> CoreVerdicts:
    """The model that answers the rest; without certificates it is never *proven* robust.

    Raises:
        RecordError: Not attacked within eps where attacks count, without labels, or a record of
            the smoothed classifier.
    """
    if smoothed(model.meta):
        raise RecordError(
            f"{model.meta.model!r} was judged as a smoothed classifier, but the core of a "
            "composition answers with the network itself; evaluate it (recuse evaluate --role core)"
        )
    accurate = model.accurate()
    if kind == "certified" and not model.proves(eps):
        return CoreVerdicts(accurate, np.zeros_like(accurate))
    return CoreVerdicts(accurate, model.stable(kind, eps))


def _alone(model: Verdicts, eps: str, kind: Kind) -> Account:
    """A model by itself; by certificates as it is deployed, and nothing where none says so."""
    accurate, radius = model.accurate(), eps
    if kind == "certified":
        radius = promise_alone(model, eps).radius
    stable = model.stable(kind, radius) if radius else np.zeros_like(accurate)
    return Account(accurate, accurate & stable)
