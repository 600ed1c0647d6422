"""``recuse attack``: an adversary that knows the whole composition."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from recuse.cli.arguments import Computing, Device, JudgedData, Repair
from recuse.cli.members import Members, Plan, plan_of, selectors_of

if TYPE_CHECKING:
    from recuse.composition import Cascade
    from recuse.data import Split
    from recuse.engine import Engine
    from recuse.evaluation.attack_cascade import CascadeAttack
    from recuse.records.schema import Record


def attack(
    stages: Annotated[
        Positional[tuple[str, ...]], arg(metavar="STAGE", help_behavior_hint="(one or more)")
    ],
    /,
    data: JudgedData,
    core: str | None = None,
    no_core: bool = False,
    from_: Annotated[Path | None, arg(name="from", metavar="PATH", help_behavior_hint="")] = None,
    threat: str | None = None,
    out: Path = Path("runs/attack"),
    selector: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: indicator)")] = (),
    selection_network: Annotated[
        tuple[str, ...], arg(metavar="MODEL ...", help_behavior_hint="")
    ] = (),
    search: int = 20,
    restarts: int = 1,
    targets: int = 0,
    black_box: int = 0,
    seed: int = 0,
    repair: Repair = False,
    device: Device = "auto",
    computing: Computing = Computing(),
) -> None:
    """Attack robust models behind their selectors and a core, or any system, as one.

    The adversary pushes towards wrong answers that a stage selects, towards points where all
    stages abstain and the core errs, and towards the core for its cost. What it leaves is an
    upper bound on robust accuracy; recuse compose gives the lower one. A rerun goes on where it
    was. Reports of the run folder show the number, and a search that reads it knows what broke.

    Args:
        stages: Robust models in the order in which they answer, named as in recuse evaluate; with
            --from where they are found, as NAME=MODEL. A mixture is a model too.
        data: Images to judge, and how they are read; take the same as for recuse evaluate.
        core: The accurate model that answers the rest.
        no_core: Nobody answers the rest.
        from_: What recuse cascade search --json wrote, whose most frequent system is attacked, or
            the folder of a system.
        threat: norm:eps of the attacker, which is the selectors' radius too; linf:2/255 by default.
        out: Run folder, best the one that recuse evaluate filled for the same models.
        selector: One for all stages or one for each: indicator, robust_margin, softmax, ..., with
            fields such as indicator(radius=4/255); recuse values selector lists them. The budget is
            the threat's.
        selection_network: The networks behind selectors called network, in their order.
        search: Gradient steps of the adversary towards each of its goals.
        restarts: Its starts per goal.
        targets: Likeliest wrong answers of each member (of a mixture, of its robust network) to aim
            at one by one; 0 for none.
        black_box: Queries of Square on every network, after the attacks by gradients; 0 for none.
        seed: Of all randomness.
        computing: Where it is computed; the rows are the same.
    """
    from recuse.analysis.attacked import attacked_rates
    from recuse.attacks import Apgd, Square
    from recuse.cli.datasets import leave
    from recuse.composition import AdaptiveAdversary
    from recuse.evaluation.attack_cascade import CascadeAttack
    from recuse.records.layout import COMPOSITION_RATES
    from recuse.records.run_folder import keep_compositions, read_compositions

    engine = computing.chosen(device)
    typed = Members((stages,), (selector,), selection_network, core, no_core, from_)
    who = plan_of(replace(typed, threat=threat or (None if from_ else "linf:2/255")))
    last = (Square(queries=black_box),) if black_box else ()
    adversary = AdaptiveAdversary(
        steps=search, restarts=restarts, attacks=(Apgd(), *last), targets=targets
    )
    plan = CascadeAttack(adversary, seed=seed, limit=data.limit)
    cascade, judged = _system(who, data, device)
    read_compositions(out / COMPOSITION_RATES)  # a file of something else is told before the work
    record = _attacked(cascade, judged, plan, out, repair=repair, engine=engine)
    keep_compositions(out / COMPOSITION_RATES, [attacked_rates(record)])
    _print(record, rest="core answers" if who.core else "abstains")
    leave(judged)


def _system(who: Plan, data: JudgedData, device: str) -> "tuple[Cascade, Split]":
    """The system as deployed, and the images."""
    from recuse.cli import datasets
    from recuse.composition import Cascade, Core, Stage
    from recuse.errors import ConfigError

    selectors = selectors_of(who, data.root)
    if any(decides.open for decides in selectors):
        raise ConfigError("the threshold of a selector is open: write it (threshold=...)")
    judged = datasets.to_judge(data, tuple(ref for _, ref in who.members), device)
    members = [
        (network, given or own, card)
        for (network, own, card), (given, _) in zip(judged.members, who.members, strict=True)
    ]
    stages = tuple(
        Stage(network, decides.selector, name, card)
        for (network, name, card), decides in zip(members, selectors, strict=False)
    )
    core = Core(*members[-1]) if who.core else None
    return Cascade(stages, core, who.budget), judged.split


def _attacked(
    cascade: "Cascade",
    split: "Split",
    plan: "CascadeAttack",
    out: Path,
    *,
    repair: bool,
    engine: "Engine",
) -> "Record":
    from recuse.cli.console import progress_display
    from recuse.evaluation.attack_cascade import attack_cascade
    from recuse.records.layout import COMPOSITION_RECORDS

    records = out / COMPOSITION_RECORDS
    with progress_display() as progress:
        return attack_cascade(
            cascade, split, plan, records=records, repair=repair, engine=engine, progress=progress
        )


def _print(record: "Record", *, rest: str) -> None:
    from rich.table import Table

    from recuse.analysis.attacked import attacked_rates
    from recuse.cli.console import table_console

    rates = attacked_rates(record)
    table = Table("composition", "images", "natural", "robust (attacked)", rest)
    for column in table.columns[1:]:
        column.justify = "right"
    shown = (f"{100 * float(rates[k]):.1f}" for k in ("natural", "attacked", "core_share"))
    table.add_row(record.meta.model, str(rates["images"]), *shown)
    table_console().print(table)
