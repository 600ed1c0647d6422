"""``recuse run``: a whole study from a recipe."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from recuse.cli.arguments import Computing, DataRoot, Device, Repair


def run(
    recipe: Annotated[Positional[str], arg(metavar="RECIPE")],
    /,
    out: Path | None = None,
    threat: str | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    limit: int | None = None,
    quick: bool = False,
    minutes: float | None = None,
    repair: Repair = False,
    data_root: DataRoot = None,
    device: Device = "auto",
    computing: Computing = Computing(),
) -> None:
    """Train, attack, compose and report, as a recipe says.

    Recipes: digits (the demo; needs nothing else), gaussians (the paper's Figure 1), and, with the
    data folder, gtsrb and cifar10 (networks trained from scratch, in hours), gtsrb_transferred
    (signs from a network of CIFAR-10), cifar10_wide (for a GPU), cifar10_small, losses, selectors,
    frontier, rejection, certified, provable and geometry. A killed run goes on with the same
    command.

    Args:
        recipe: Name of a recipe, or a config.json that an earlier run has left.
        out: Run folder; by default runs/RECIPE. It gets config.json, checkpoints, records and
            report.html.
        threat: What the robust models are trained against, for example linf:2/255.
        seed: Of weights, order, noise and attacks.
        epochs: Training epochs.
        limit: Judge only the first so many test images.
        quick: The same steps at a size that shows only that they work, in less than two minutes.
        minutes: Stop after so many, where nothing is lost (exit code 3); the same command goes on.
        computing: Where networks are judged; the rows are the same.
    """
    from recuse.cli import options
    from recuse.cli.console import console, progress_display
    from recuse.cli.show import print_summary
    from recuse.data import find_data_root
    from recuse.progress import TimeLimit
    from recuse.recipes import RunLocation
    from recuse.recipes import run as carry_out
    from recuse.records.layout import RECORDS
    from recuse.records.store import holds_records, read_records

    config = options.run_config(
        recipe, threat=threat, seed=seed, epochs=epochs, limit=limit, quick=quick
    )
    place = RunLocation(
        out or Path("runs") / config.recipe,
        find_data_root(data_root),
        str(options.device(device)),
        repair,
        computing.chosen(device),
    )
    with progress_display() as shown:
        progress = shown if minutes is None else TimeLimit(shown, minutes)
        report = carry_out(config, place, progress=progress)
    if holds_records(place.out / RECORDS):
        print_summary(list(read_records(place.out)))
    console.print(f"report: {report}", soft_wrap=True)
