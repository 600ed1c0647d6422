"""``recuse build``: networks, a core and a budget become a system that can be asked."""

from pathlib import Path
from typing import TYPE_CHECKING

from recuse.cli.arguments import Device, JudgedData, option_group
from recuse.cli.members import Decides, Members, Plan, plan_of, selectors_of

if TYPE_CHECKING:
    from recuse.cli.datasets import ToJudge
    from recuse.composition import Core
    from recuse.data import Split
    from recuse.models.cards import Card
    from recuse.selectors import Coverage, NaturalLoss, Risk
    from recuse.systems import InputForm
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
    from recuse.cli.built import print_built
    from recuse.cli.console import progress_display
    from recuse.systems.build import build as run

    plan = plan_of(members)
    how = _building(plan, goal, search, seed)
    selectors = selectors_of(plan, data.root)
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
    print_built(system, out)
    datasets.leave(judged.split)


def _building(plan: Plan, goal: Goal, search: int, seed: int) -> "Building":
    from recuse.attacks import Apgd
    from recuse.composition import AdaptiveAdversary
    from recuse.evaluation.attack_cascade import CascadeAttack
    from recuse.systems.build import Building

    adversary = AdaptiveAdversary(steps=search, attacks=(Apgd(),))
    return Building(plan.budget, goal.chosen(), seed, CascadeAttack(adversary, seed=seed))


def _roles(
    plan: Plan, judged: "ToJudge", selectors: list[Decides]
) -> "tuple[list[OpenStage], Core | None]":
    """The networks as stages behind their selectors, and the core."""
    from recuse.composition import Core, Stage
    from recuse.systems.choosing import OpenStage

    members = [
        (network, given or own, card)
        for (network, own, card), (given, _) in zip(judged.members, plan.members, strict=True)
    ]
    stages = [
        OpenStage(Stage(network, decides.selector, name, card, decides.card), decides.open)
        for (network, name, card), decides in zip(members, selectors, strict=False)
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


_IMAGE = 3
