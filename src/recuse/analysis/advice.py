"""Which system to take: the core alone, a robust model alone, or a composition of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from recuse.analysis.accounting import Account, difference
from recuse.analysis.compositions import Composition
from recuse.analysis.deployed import Promise
from recuse.analysis.fronts import ROUNDING, most_robust, pareto
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Kind, Verdicts
from recuse.errors import RecordError

# Natural accuracy against the core that a recommended system may give up where one can be had.
ALLOWED_LOSS = 0.01
# What stands behind a count by attacks: no chance, nothing lacking.
NOTHING = Promise()


@dataclass(frozen=True, eq=False)
class System:
    """Something that could be deployed.

    Attributes:
        account: Its outcome per sample, by the sound count.
        models: One model alone, or the members of a composition in order.
        promised: What stands behind its robust count where proofs are counted.
        composition: The composition; None for a model alone.
    """

    account: Account
    models: tuple[Verdicts, ...]
    promised: Promise = NOTHING
    composition: Composition | None = None

    @property
    def supported(self) -> bool:
        """Whether the records support its robust count."""
        return not self.promised.lacking

    @property
    def name(self) -> str:
        """``model`` or ``stage → … → core``."""
        return " → ".join(model.meta.model for model in self.models)

    @property
    def title(self) -> str:
        """``model alone`` or ``stage → … → core``."""
        return self.name if self.composition else f"{self.name} alone"


@dataclass(frozen=True, eq=False)
class Advice:
    """What to take among compositions of one question and their members alone.

    Attributes:
        taken: The recommended system: a composition, a robust model alone, or the core.
        core: The most accurate core alone.
        others: What the recommendation has to stand beside: for a composition each of its
            stages alone; for a robust model alone the best composition that it leads; for the
            core the best composition there is.
        alike: Systems that these samples do not tell from the recommended one: both intervals
            of their difference hold 0.
        choices: How many systems it was chosen among, on the samples it is reported on.
        eps: The attacker's radius.
        kind: What the robust accuracies rest on.
    """

    taken: System
    core: System
    others: tuple[System, ...]
    alike: tuple[System, ...]
    choices: int
    eps: str
    kind: Kind

    @property
    def cheap(self) -> bool:
        """Whether it gives up at most :data:`ALLOWED_LOSS` of the core's natural accuracy."""
        return _cheap(rate(self.taken.account.natural), rate(self.core.account.natural))


def systems(compositions: Sequence[Composition]) -> tuple[list[System], ...]:
    """The cores alone, the stages alone, each once, and the compositions.

    Args:
        compositions: Of one question; at least one.
    """
    cores, stages = (
        [
            System(c.alone[place], (c.members[place],), c.promised_alone(place))
            for c in compositions
            for place in places(len(c.members))
        ]
        for places in (lambda n: (n - 1,), lambda n: range(n - 1))
    )
    composed = [System(c.sound, c.members, c.promised, c) for c in compositions]
    return _distinct(cores), _distinct(stages), composed


def advise(compositions: Sequence[Composition]) -> Advice:
    """Choose among compositions, and all of their members alone.

    Args:
        compositions: Of one radius, counted alike on the same samples; at least one.

    Raises:
        RecordError: Compositions that cannot be compared, or none.
    """
    if len({(c.eps, c.kind, tuple(c.core.ids)) for c in compositions}) != 1:
        raise RecordError(
            f"{len(compositions)} compositions of different radii, verdicts or samples cannot be "
            "compared; choose among those of one question, of which there must be one"
        )
    cores, everyone, composed = systems(compositions)
    core = max(cores, key=lambda system: rate(system.account.natural))
    stages = [system for system in everyone if system.supported]
    choices = [*stages, *composed]
    index = advised([s.account for s in choices], core.account)
    taken = core if index is None else choices[index]
    return Advice(
        taken=taken,
        core=core,
        others=_beside(taken, stages, composed),
        alike=tuple(s for s in choices if s is not taken and _alike(s, taken)),
        choices=len(choices) + len(cores),
        eps=compositions[0].eps,
        kind=compositions[0].kind,
    )


def advised(systems: Sequence[Account], core: Account) -> int | None:
    """The system to recommend, among all that could be deployed instead of the core.

    Nothing is recommended that another of them, or the core, equals or beats in both natural and
    robust accuracy; of equal ones the first counts. Of those that give up at most
    :data:`ALLOWED_LOSS` of the core's natural accuracy the most robust is taken, provided that it
    is more robust than the core; where none is that cheap, the one with the largest sum of both.

    Args:
        systems: Robust models alone, then compositions, counted on the same samples.
        core: The accurate model alone.

    Returns:
        Index into ``systems``; None where the core alone is the better choice.
    """
    everyone = [core, *systems]
    natural = [rate(account.natural) for account in everyone]
    robust = [rate(account.robust) for account in everyone]
    front = [i for i in pareto(natural, robust) if i != 0]
    if any(_cheap(natural[i], natural[0]) for i in front):
        best = most_robust(natural, robust, core=natural[0], loss=ALLOWED_LOSS)
        return best - 1 if best else None
    best = max([0, *front], key=lambda i: natural[i] + robust[i])
    return best - 1 if best else None


def _cheap(natural: float, core: float) -> bool:
    return natural >= core - ALLOWED_LOSS - ROUNDING


def _alike(system: System, other: System) -> bool:
    over = difference(system.account, other.account)
    return all(i.low <= 0 <= i.high for i in (over.natural, over.robust))


def _distinct(systems: Sequence[System]) -> list[System]:
    """Models alone without repeats, in their order."""
    return list({id(system.models[0]): system for system in systems}.values())


def _beside(
    taken: System, stages: Sequence[System], composed: Sequence[System]
) -> tuple[System, ...]:
    if taken.composition is not None:
        members = {id(model) for model in taken.models}
        return tuple(s for s in stages if id(s.models[0]) in members)
    led = [s for s in composed if s.models[0] is taken.models[0]] or composed
    return (max(led, key=lambda s: rate(s.account.natural) + rate(s.account.robust)),)
