"""``recuse attack``: an adversary that knows the whole composition."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from recuse.records.schema import Record


def attack(
    stages: Annotated[
        Positional[tuple[str, ...]], arg(metavar="STAGE", help_behavior_hint="(one or more)")
    ],
    /,
    core: str,
    data: str | None = None,
    test_on: str | None = None,
    train_on: str | None = None,
    part: str = "test",
    allow_training_data: bool = False,
    threat: str = "linf:2/255",
    out: Path = Path("runs/attack"),
    selector: str = "indicator",
    search: int = 20,
    restarts: int = 1,
    limit: int | None = None,
    seed: int = 0,
    repair: bool = False,
    data_root: Path | None = None,
    device: str = "auto",
) -> None:
    """Attack robust models behind their selectors and a core as one system.

    The adversary pushes towards wrong answers that a stage selects, towards points where all
    stages abstain and the core errs, and towards the core for its cost. What it leaves is an
    upper bound on robust accuracy; recuse compose gives the lower one. A rerun goes on where it
    was. Reports of the run folder show the number.

    Args:
        stages: Robust models in the order in which they answer, named as in recuse evaluate.
        core: The accurate model that answers the rest.
        data: A data set by name (recuse data list), a folder of images or a parquet file; one that
            does not come in parts is cut in three.
        test_on: Instead of data, a data set to judge whole, or its test part where it has one.
        train_on: With test_on, the data set the model was trained on, to check that no image is in
            both.
        part: Of data, what to judge: test, validation, train or all.
        allow_training_data: Judge images that the model's card says it was trained on.
        threat: norm:eps of the attacker, which is the selectors' radius too.
        out: Run folder, best the one that recuse evaluate filled for the same models.
        selector: Of every stage: indicator, robust_margin, softmax, ..., with fields such as
            indicator(radius=4/255); recuse values selector lists them. The budget is the threat's.
        search: Gradient steps of the adversary towards each of its goals.
        restarts: Its starts per goal.
        limit: Only the first so many images; take the same for recuse evaluate.
        seed: Of all randomness.
        repair: Attack again the images of damaged files of the record; else they are named and the
            command stops.
        data_root: Folder with the data sets; by default the variable RECUSE_DATA.
        device: auto, cpu or cuda.
    """
    from recuse.analysis.attacked import attacked_rates
    from recuse.attacks import Apgd
    from recuse.cli import datasets, options
    from recuse.cli.console import progress_display
    from recuse.composition import AdaptiveAdversary, Cascade, Core, Stage
    from recuse.data import find_data_root
    from recuse.evaluation.attack_cascade import CascadeAttack, attack_cascade
    from recuse.records.layout import COMPOSITION_RATES, COMPOSITION_RECORDS
    from recuse.records.run_folder import keep_compositions, read_compositions
    from recuse.threat import Threat

    budget, root, where = Threat.parse(threat), find_data_root(data_root), options.device(device)
    adversary = AdaptiveAdversary(steps=search, restarts=restarts, attacks=(Apgd(),))
    plan = CascadeAttack(adversary, seed=seed, limit=limit)
    decides = options.value(selector, "selector", budget=budget)
    loaded = [options.model(ref, root) for ref in (*stages, core)]
    named = datasets.Named(data, train_on, test_on, part)
    judged = datasets.to_judge(
        named, tuple(loaded), root, limit=limit, allow_training_data=allow_training_data
    )
    members = zip(judged.networks, (m.name for m in loaded), judged.cards, strict=True)
    *first, last = ((network.to(where), name, card) for network, name, card in members)
    cascade = Cascade(
        tuple(Stage(network, decides, name, card) for network, name, card in first),
        Core(*last),
        budget,
    )
    read_compositions(out / COMPOSITION_RATES)  # a file of something else is told before the work
    with progress_display() as progress:
        record = attack_cascade(
            cascade,
            judged.split,
            plan,
            records=out / COMPOSITION_RECORDS,
            repair=repair,
            progress=progress,
        )
    keep_compositions(out / COMPOSITION_RATES, [attacked_rates(record)])
    _print(record)


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
