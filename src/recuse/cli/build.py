"""``recuse build``: networks, a core and a budget become a system that can be asked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import UseAppendAction, arg

if TYPE_CHECKING:
    from recuse.cli.options import LoadedModel
    from recuse.data import Split
    from recuse.models.cards import Card
    from recuse.protocols import Selector
    from recuse.selectors import Coverage, NaturalLoss, Risk
    from recuse.systems import InputForm, System
    from recuse.threat import Threat

Repeated = tuple[tuple[str, ...], ...]


def build(
    out: Path,
    stage: Annotated[Repeated, UseAppendAction, arg(metavar="[NAME=]MODEL ...")] = (),
    selector: Annotated[Repeated, UseAppendAction, arg(metavar="SELECTOR ...")] = (),
    core: str | None = None,
    no_core: bool = False,
    from_: Annotated[Path | None, arg(name="from", metavar="PATH", help_behavior_hint="")] = None,
    threat: str | None = None,
    data: str | None = None,
    test_on: str | None = None,
    train_on: str | None = None,
    part: str = "test",
    allow_training_data: bool = False,
    max_natural_loss: float | None = None,
    max_risk: float | None = None,
    min_coverage: float | None = None,
    name: str | None = None,
    resize: bool = True,
    crop: bool = False,
    search: int = 20,
    limit: int | None = None,
    seed: int = 0,
    data_root: Path | None = None,
    device: str = "auto",
) -> None:
    """Build a system: stages behind their selectors, a core, thresholds that are chosen.

    Open thresholds are chosen on one half of the images, and the whole is measured on the other:
    natural accuracy, the sound lower bound and what an adversary of the whole system leaves. The
    folder holds weights, cards and system.json, and is checked by hash when it is loaded. A killed
    build goes on with the same command.

    Args:
        out: The system's folder.
        stage: Robust models in the order in which they answer, as MODEL or NAME=MODEL; several at
            once, or one each time the option is given.
        selector: One for all stages or one for each: indicator, robust_margin, softmax, ..., with
            fields such as indicator(radius=3/255, attack=apgd(steps=99)); recuse values selector
            lists them. A threshold that is not written is open. By default indicator.
        core: The accurate model that answers the rest.
        no_core: Nobody answers what no stage selects.
        from_: What recuse cascade search --json wrote: its most frequent cascade gives stages,
            core and threat. Models are found by their names, or by NAME=MODEL of --stage.
        threat: norm:eps of the attacker, for example linf:2/255.
        data: A data set by name (recuse data list), a folder of images or a parquet file.
        test_on: Instead of data, a data set to use whole, or its test part where it has one.
        train_on: With test_on, the data set the models were trained on, to check that no image is
            in both.
        part: Of data, what to choose and measure on: test, validation, train or all.
        allow_training_data: Use images that a model's card says it was trained on.
        max_natural_loss: Natural accuracy that may be given up against the core alone, in points:
            0.5 is half a percentage point. The lowest thresholds that keep it are taken.
        max_risk: Instead, the share of wrong answers among those that the stage gives, kept with
            95 % confidence.
        min_coverage: Instead, the share of images that the stage answers at least.
        name: Of the system; by default the folder's.
        resize: Resize images of other sizes when the system is asked; --no-resize refuses them.
        crop: Cut images to the networks' proportions first, around the centre.
        search: Gradient steps of the adversary towards each of its goals.
        limit: Only the first so many images, for both halves together.
        seed: Of the halves and of all searches.
        data_root: Folder with the data sets; by default the variable RECUSE_DATA.
        device: auto, cpu or cuda.
    """
    from recuse.attacks import Apgd
    from recuse.cli import datasets, options
    from recuse.cli.console import progress_display
    from recuse.composition import AdaptiveAdversary, Core, Stage
    from recuse.data import find_data_root
    from recuse.evaluation.attack_cascade import CascadeAttack
    from recuse.systems.build import Building
    from recuse.systems.build import build as run
    from recuse.systems.choosing import OpenStage

    plan = _plan(_flat(stage), core, no_core, from_, threat)
    goal = _goal(max_natural_loss, max_risk, min_coverage)
    selectors = _selectors(_flat(selector) or plan.selectors, len(plan.stages), plan.budget)
    adversary = AdaptiveAdversary(steps=search, attacks=(Apgd(),))
    how = Building(plan.budget, goal, seed, CascadeAttack(adversary, seed=seed))
    root, where = find_data_root(data_root), options.device(device)
    loaded = tuple(_loaded(entry, root) for entry in plan.members)
    named = datasets.Named(data, train_on, test_on, part)
    judged = datasets.to_judge(
        named, loaded, root, limit=limit, allow_training_data=allow_training_data
    )
    split = judged.split if limit is None else judged.split.head(limit)
    networks = zip(judged.networks, loaded, judged.cards, strict=True)
    members = [(network.to(where), model.name, card) for network, model, card in networks]
    stages = [
        OpenStage(Stage(network, decides, called, card), is_open)
        for (network, called, card), (decides, is_open) in zip(members, selectors, strict=False)
    ]
    with progress_display() as progress:
        system = run(
            stages,
            Core(*members[-1]) if plan.core else None,
            split,
            how,
            name=name or out.resolve().name,
            labels=_labels(judged.cards[-1], split),
            form=_form(split.shape, resize=resize, crop=crop),
            run=out,
            progress=progress,
        )
    system.save(out)
    _print(system, out)


@dataclass(frozen=True)
class _Plan:
    """Who is in a system: stages and core, each as MODEL or NAME=MODEL, and the budget.

    A search has found the selectors too; otherwise there are none.
    """

    stages: tuple[str, ...]
    core: str | None
    budget: "Threat"
    selectors: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        return self.stages if self.core is None else (*self.stages, self.core)


def _flat(words: Repeated) -> tuple[str, ...]:
    return tuple(word for group in words for word in group)


def _plan(
    stages: tuple[str, ...], core: str | None, no_core: bool, best: Path | None, threat: str | None
) -> _Plan:
    from recuse.cli.searched import searched
    from recuse.errors import ConfigError
    from recuse.threat import Threat

    selectors: tuple[str, ...] = ()
    if best is not None:
        stages, selectors, found, budget = searched(best, stages)
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
    return _Plan(stages, core, Threat.parse(threat), selectors)


def _goal(
    loss: float | None, risk: float | None, coverage: float | None
) -> "NaturalLoss | Risk | Coverage | None":
    from recuse.errors import ConfigError
    from recuse.selectors import Coverage, NaturalLoss, Risk

    if sum(wish is not None for wish in (loss, risk, coverage)) > 1:
        raise ConfigError("choose by one of --max-natural-loss, --max-risk and --min-coverage")
    if loss is not None:
        return NaturalLoss(loss / 100)
    if risk is not None:
        return Risk(risk)
    return None if coverage is None else Coverage(coverage)


def _selectors(
    texts: tuple[str, ...], stages: int, budget: "Threat"
) -> "list[tuple[Selector, bool]]":
    from recuse.errors import ConfigError
    from recuse.systems.typed import open_selector

    each = texts or ("indicator",)
    if len(each) not in (1, stages):
        raise ConfigError(f"{len(each)} selectors for {stages} stages; give one, or one for each")
    return [open_selector(text, budget) for text in (each * stages if len(each) == 1 else each)]


def _loaded(entry: str, root: Path | None) -> "LoadedModel":
    from recuse.cli import options

    name, equals, ref = entry.partition("=")
    if not equals:
        return options.model(entry, root)
    return replace(options.model(ref, root), name=name)


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
