"""``recuse attack``: an adversary that knows the whole composition."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from recuse.cli.arguments import Computing, Device, JudgedData, Repair

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
    core: str,
    data: JudgedData,
    threat: str = "linf:2/255",
    out: Path = Path("runs/attack"),
    selector: str = "indicator",
    search: int = 20,
    restarts: int = 1,
    seed: int = 0,
    repair: Repair = False,
    device: Device = "auto",
    computing: Computing = Computing(),
) -> None:
    """Attack robust models behind their selectors and a core as one system.

    The adversary pushes towards wrong answers that a stage selects, towards points where all
    stages abstain and the core errs, and towards the core for its cost. What it leaves is an
    upper bound on robust accuracy; recuse compose gives the lower one. A rerun goes on where it
    was. Reports of the run folder show the number.

    Args:
        stages: Robust models in the order in which they answer, named as in recuse evaluate.
        core: The accurate model that answers the rest.
        data: Images to judge, and how they are read; take the same as for recuse evaluate.
        threat: norm:eps of the attacker, which is the selectors' radius too.
        out: Run folder, best the one that recuse evaluate filled for the same models.
        selector: Of every stage: indicator, robust_margin, softmax, ..., with fields such as
            indicator(radius=4/255); recuse values selector lists them. The budget is the threat's.
        search: Gradient steps of the adversary towards each of its goals.
        restarts: Its starts per goal.
        seed: Of all randomness.
        computing: Where it is computed; the rows are the same.
    """
    from recuse.analysis.attacked import attacked_rates
    from recuse.attacks import Apgd
    from recuse.cli import datasets, options
    from recuse.composition import AdaptiveAdversary, Cascade, Core, Stage
    from recuse.evaluation.attack_cascade import CascadeAttack
    from recuse.records.layout import COMPOSITION_RATES
    from recuse.records.run_folder import keep_compositions, read_compositions
    from recuse.threat import Threat

    budget, engine = Threat.parse(threat), computing.chosen()
    adversary = AdaptiveAdversary(steps=search, restarts=restarts, attacks=(Apgd(),))
    plan = CascadeAttack(adversary, seed=seed, limit=data.limit)
    decides = options.value(selector, "selector", budget=budget)
    judged = datasets.to_judge(data, (*stages, core), device)
    *first, last = judged.members
    answering = tuple(Stage(network, decides, name, card) for network, name, card in first)
    cascade = Cascade(answering, Core(*last), budget)
    read_compositions(out / COMPOSITION_RATES)  # a file of something else is told before the work
    record = _attacked(cascade, judged.split, plan, out, repair=repair, engine=engine)
    keep_compositions(out / COMPOSITION_RATES, [attacked_rates(record)])
    _print(record)


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


def _print(record: "Record") -> None:
    from rich.table import Table

    from recuse.analysis.attacked import attacked_rates
    from recuse.cli.console import table_console

    rates = attacked_rates(record)
    table = Table("composition", "images", "natural", "robust (attacked)", "core answers")
    for column in table.columns[1:]:
        column.justify = "right"
    shown = (f"{100 * float(rates[k]):.1f}" for k in ("natural", "attacked", "core_share"))
    table.add_row(record.meta.model, str(rates["images"]), *shown)
    table_console().print(table)
