"""Who is in a system: as typed, as a search found it, or as a system's folder says."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import UseAppendAction, arg

from recuse.cli.arguments import option_group

if TYPE_CHECKING:
    from recuse.protocols import Selector
    from recuse.threat import Threat

Repeated = tuple[tuple[str, ...], ...]


@option_group
class Members:
    """Who is in a system.

    Attributes:
        stage: Robust models in the order in which they answer, as MODEL or NAME=MODEL; several at
            once, or one each time the option is given.
        selector: One for all stages or one for each: indicator, robust_margin, softmax, ..., with
            fields such as indicator(radius=3/255, attack=apgd(steps=99)); recuse values selector
            lists them. A threshold that is not written is open. By default indicator.
        core: The accurate model that answers the rest.
        no_core: Nobody answers what no stage selects.
        from_: What recuse cascade search --json wrote, whose most frequent system gives stages,
            selectors, core and threat; models are found by their names, or by NAME=MODEL of
            --stage. Or the folder of a system.
        threat: norm:eps of the attacker, for example linf:2/255.
    """

    stage: Annotated[Repeated, UseAppendAction, arg(metavar="[NAME=]MODEL ...")] = ()
    selector: Annotated[Repeated, UseAppendAction, arg(metavar="SELECTOR ...")] = ()
    core: str | None = None
    no_core: bool = False
    from_: Annotated[Path | None, arg(name="from", metavar="PATH", help_behavior_hint="")] = None
    threat: str | None = None


@dataclass(frozen=True)
class Plan:
    """Stages and core, each as MODEL or NAME=MODEL; selectors where some are named."""

    stages: tuple[str, ...]
    core: str | None
    budget: "Threat"
    selectors: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[tuple[str, str], ...]:
        """Names that were given, or nothing, and models."""
        entries = self.stages if self.core is None else (*self.stages, self.core)
        return tuple(map(_parted, entries))


def _flat(words: Repeated) -> tuple[str, ...]:
    return tuple(word for group in words for word in group)


def _parted(entry: str) -> tuple[str, str]:
    name, equals, model = entry.partition("=")
    return (name, model) if equals else ("", entry)


def plan_of(given: Members) -> Plan:
    """Stages, core and budget, of what was typed and what a search or a system folder says.

    Raises:
        ConfigError: Nobody to answer, or no budget.
        RecordError: A damaged file.
    """
    from recuse.cli.searched import searched
    from recuse.errors import ConfigError
    from recuse.threat import Threat

    stages, core, no_core, threat = _flat(given.stage), given.core, given.no_core, given.threat
    selectors: tuple[str, ...] = ()
    if given.from_ is not None:
        stages, selectors, found, budget = searched(given.from_, stages)
        no_core = no_core or (core or found) is None
        core, threat = core or found, threat or budget
    if no_core:
        core = None
    elif core is None:
        raise ConfigError(
            "name the model that answers the rest (--core MODEL), or say that nobody does "
            "(--no-core)"
        )
    if not stages:
        raise ConfigError("name one stage or more (--stage MODEL)")
    if threat is None:
        raise ConfigError("name the attacker's budget, for example --threat linf:2/255")
    return Plan(stages, core, Threat.parse(threat), _flat(given.selector) or selectors)


def selectors_of(plan: Plan) -> "list[tuple[Selector, bool]]":
    """A selector for each stage, and whether its threshold is open.

    Raises:
        ConfigError: Another number of selectors than of stages, or text that is none.
    """
    from recuse.errors import ConfigError
    from recuse.systems.typed import open_selector

    each, stages = plan.selectors or ("indicator",), len(plan.stages)
    if len(each) not in (1, stages):
        raise ConfigError(f"{len(each)} selectors for {stages} stages; give one, or one for each")
    return [
        open_selector(text, plan.budget) for text in (each * stages if len(each) == 1 else each)
    ]
