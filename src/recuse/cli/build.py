"""``recuse build``: networks, a core and a budget become a system that can be asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recuse.cli.arguments import Device, JudgedData, option_group
from recuse.cli.members import Members, Plan, plan_of, selectors_of

if TYPE_CHECKING:
    from recuse.cli.datasets import ToJudge
    from recuse.composition import Core
    from recuse.data import Split
    from recuse.models.cards import Card
    from recuse.protocols import Selector
    from recuse.selectors import Coverage, NaturalLoss, Risk
    from recuse.systems import InputForm, System
    from recuse.systems.build import Building
    from recuse.systems.choosing import OpenStage


@option_group
class Goal:
    """What open thresholds are chosen for.

    Attributes:
        max_natural_loss: Natural accuracy that may be given up against the core alone, in points:
            0.5 is half a percentage point. The lowest thresholds that keep it are taken.
        max_risk: Instead, the share of wrong answers among those that the stage gives, kept with
            95 % confidence.
        min_coverage: Instead, the share of images that the stage answers at least.
    """

    max_natural_loss: float | None = None
    max_risk: float | None = None
    min_coverage: float | None = None

    def chosen(self) -> "NaturalLoss | Risk | Coverage | None":
        """The one that was asked for; None where there is none.

        Raises:
            ConfigError: More than one.
        """
        from recuse.errors import ConfigError
        from recuse.selectors import Coverage, NaturalLoss, Risk

        loss, risk, coverage = self.max_natural_loss, self.max_risk, self.min_coverage
        if sum(wish is not None for wish in (loss, risk, coverage)) > 1:
            raise ConfigError("choose by one of --max-natural-loss, --max-risk and --min-coverage")
        if loss is not None:
            return NaturalLoss(loss / 100)
        if risk is not None:
            return Risk(risk)
        return None if coverage is None else Coverage(coverage)


def build(
    out: Path,
    members: Members,
    data: JudgedData,
    goal: Goal,
    name: str | None = None,
    resize: bool = True,
    crop: bool = False,
    search: int = 20,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Build a system: stages behind their selectors, a core, thresholds that are chosen.

    Open thresholds are chosen on one half of the images, and the whole is measured on the other:
    natural accuracy, the sound lower bound and what an adversary of the whole system leaves. The
    folder holds weights, cards and system.json, and is checked by hash when it is loaded. A killed
    build goes on with the same command.

    Args:
        out: The system's folder.
        members: Who is in the system, against which attacker.
        data: Images to choose and measure on; a limit is for both halves together.
        goal: What open thresholds are chosen for.
        name: Of the system; by default the folder's.
        resize: Resize images of other sizes when the system is asked; --no-resize refuses them.
        crop: Cut images to the networks' proportions first, around the centre.
        search: Gradient steps of the adversary towards each of its goals.
        seed: Of the halves and of all searches.
    """
    from recuse.cli import datasets
    from recuse.cli.console import progress_display
    from recuse.systems.build import build as run

    plan = plan_of(members)
    how = _building(plan, goal, search, seed)
    selectors = selectors_of(plan)
    judged = datasets.to_judge(data, tuple(ref for _, ref in plan.members), device)
    split = data.limited(judged.split)
    stages, core = _roles(plan, judged, selectors)
    with progress_display() as progress:
        system = run(
            stages,
            core,
            split,
            how,
            name=name or out.resolve().name,
            labels=_labels(judged.members[-1][2], split),
            form=_form(split.shape, resize=resize, crop=crop),
            run=out,
            progress=progress,
        )
    system.save(out)
    _print(system, out)
    datasets.leave(judged.split)


def _building(plan: Plan, goal: Goal, search: int, seed: int) -> "Building":
    from recuse.attacks import Apgd
    from recuse.composition import AdaptiveAdversary
    from recuse.evaluation.attack_cascade import CascadeAttack
    from recuse.systems.build import Building

    adversary = AdaptiveAdversary(steps=search, attacks=(Apgd(),))
    return Building(plan.budget, goal.chosen(), seed, CascadeAttack(adversary, seed=seed))


def _roles(
    plan: Plan, judged: "ToJudge", selectors: "list[tuple[Selector, bool]]"
) -> "tuple[list[OpenStage], Core | None]":
    """The networks as stages behind their selectors, and the core."""
    from recuse.composition import Core, Stage
    from recuse.systems.choosing import OpenStage

    members = [
        (network, given or own, card)
        for (network, own, card), (given, _) in zip(judged.members, plan.members, strict=True)
    ]
    stages = [
        OpenStage(Stage(network, decides, name, card), is_open)
        for (network, name, card), (decides, is_open) in zip(members, selectors, strict=False)
    ]
    return stages, Core(*members[-1]) if plan.core else None


def _labels(card: "Card | None", split: "Split") -> tuple[str, ...]:
    """Names of the classes: those of the network, or of the data where it only counts them."""
    own = card.label_names if card else ()
    if own and not all(name.isdecimal() for name in own):
        return own
    return split.label_names if len(own) <= len(split.label_names) else own


def _form(shape: tuple[int, ...], *, resize: bool, crop: bool) -> "InputForm":
    from recuse.errors import ConfigError
    from recuse.systems import InputForm

    if len(shape) != _IMAGE:
        raise ConfigError(f"a system takes images, but these data are of shape {list(shape)}")
    channels, height, width = shape
    return InputForm(
        channels, (height, width), "bilinear" if resize else None, "center" if crop else None
    )


def _print(system: "System", out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from recuse.cli.console import table_console
    from recuse.systems.typed import write_selector

    console = Console(soft_wrap=True, highlight=False)
    for stage in system.cascade.stages:
        console.print(f"{stage.name}: {write_selector(stage.selector)}", markup=False)
    chosen, found = system.chosen_on, system.measured
    table = Table(f"% of {found['rows']} images of {found['data']}", *_COLUMNS)
    for column in table.columns[1:]:
        column.justify = "right"
    rates = (found[kind] for kind in ("natural", "sound", "attacked", "selected"))
    table.add_row(system.name, *map(_percent, rates))
    alone = {
        **found["stage_alone"],
        **({"core": found["core_alone"]} if found["core_alone"] else {}),
    }
    for member, rate in alone.items():
        robust = _percent(rate["robust"])
        table.add_row(f"{member} alone", _percent(rate["natural"]), "", robust, "")
    table_console().print(table)
    console.print(
        f"wrote {out}: {chosen['rule']}, chosen on {chosen['rows']} other images", markup=False
    )


_IMAGE = 3
_COLUMNS = ("natural", "robust (sound)", "robust (attacked)", "answered by a stage")


def _percent(rate: Sequence[float] | None) -> str:
    if rate is None:
        return "–"
    mean, low, high = (100 * value for value in rate)
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"
