"""``recuse cascade``: which models in which order."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from recuse.analysis.cascade_pool import Pool
    from recuse.analysis.cascade_splits import SearchResult
    from recuse.analysis.intervals import Interval


def search(
    logs: tuple[Path, ...],
    dataset: str,
    eps: str,
    max_natural_loss: float = 0.0,
    stages: int = 2,
    splits: int = 20,
    json: Path | None = None,
    core: str | None = None,
    mechanisms: tuple[str, ...] = ("indicator",),
    thresholds: int = 40,
    seed: int = 0,
    budget: int = 50_000,
) -> None:
    """Find the best system of a few robust models and an accurate core, by the sound count.

    Every model judged at eps and twice eps may be a stage, which answers where no perturbation
    within eps changes its answer. The cascade with the highest sound robust accuracy is chosen
    on one half of the samples and reported on the other. One stage is the paper's
    2-composition. Beside it stand the core alone and the most robust model alone that keeps within
    the same loss (or of all where none does), chosen on the same half.

    Args:
        logs: Run folders, or folders of published logs.
        dataset: Data set, for example cifar10.
        eps: The attacker's radius, for example 2/255.
        max_natural_loss: Natural accuracy that may be given up against the core on the choosing
            half, as a share: 0.01 is one point (values from 1 on are read as points).
        stages: At most this many stages in front of the core.
        splits: Random halves to average over.
        json: Write every split and the means to this file.
        core: The model that always answers; by default the most accurate standard model.
        mechanisms: What a model may stand behind or in: indicator, softmax, mixture (of
            probabilities with the core's), one-hot-mixture (with the core's bare answer). All but
            the indicator need records made by recuse evaluate --margins.
        thresholds: Thresholds of softmax response, and weights of each mixture.
        seed: Of the first split.
        budget: Partial cascades to extend per split; a search that ends early says how much
            better another cascade could be.
    """
    import json as jsonlib

    from recuse.analysis.cascade_splits import search_splits
    from recuse.cli.console import progress_display
    from recuse.records.store import write_atomically

    pool = _pool(
        logs, dataset=dataset, eps=eps, core=core, mechanisms=mechanisms, thresholds=thresholds
    )
    with progress_display() as progress:
        result = search_splits(
            pool,
            max_natural_loss=max_natural_loss / 100 if max_natural_loss >= 1 else max_natural_loss,
            max_stages=stages,
            splits=splits,
            seed=seed,
            budget=budget,
            report=lambda done: progress("cascade search", done, splits),
        )
    if json is not None:
        write_atomically(json, jsonlib.dumps(result.as_dict(), indent=1).encode())
    _print(result)


def _pool(logs: "Sequence[Path]", **how: Any) -> "Pool":
    """Every model of the logs that may be in a system."""
    from recuse.analysis.cascade_pool import build_pool
    from recuse.records.run_folder import attack_records
    from recuse.records.sources import load_records

    records = [record for path in logs for record in load_records(path)]
    attacks = [record for path in logs for record in attack_records(path)]
    return build_pool(records, attacks=attacks, **how)


def _print(result: "SearchResult") -> None:
    from rich.console import Console
    from rich.table import Table

    pool, mean, spread = result.pool, result.mean, result.deviation
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{pool.dataset}, {pool.norm} {pool.eps}: {len(pool.names)} models, core {pool.core_name}, "
        f"at most {result.max_stages} stages, natural loss at most "
        f"{100 * result.max_natural_loss:g} points on the choosing half"
    )
    table = Table("reporting half, %", "natural", "robust (sound)")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, natural, robust in (
        ("core alone", "core_natural", "core_robust"),
        ("robust model alone", "alone_natural", "alone_robust"),
        ("best system", "natural", "sound"),
    ):
        rates = [
            f"{100 * getattr(mean, n):.1f} ± {100 * getattr(spread, n):.1f}"
            for n in (natural, robust)
        ]
        table.add_row(name, *rates)
    console.print(table)
    _say(result, console)


def _say(result: "SearchResult", console: "Console") -> None:
    """Differences, what was chosen how often, and what is left open."""
    from recuse.analysis.cascade_differences import cascade_over_alone, cascade_over_core

    for words, over in (
        ("the core alone", cascade_over_core(result)),
        ("the robust model alone", cascade_over_alone(result)),
    ):
        console.print(
            f"best system against {words}: {_points(over.natural)} natural, "
            f"{_points(over.robust)} robust (paired, 95 %)"
        )
    if result.better_alone:
        console.print(
            f"in {result.better_alone} of {len(result.splits)} halves a model alone keeps within "
            "the allowed loss and is more robust than the best system: there it is the better "
            "choice"
        )
    chosen = Counter(
        split.mixture or " → ".join((*split.stages, result.pool.core_name))
        for split in result.splits
    )
    for system, times in chosen.most_common(5):
        console.print(f"{times}× {system}")
    if unproven := sum(not split.optimal for split in result.splits):
        gap = max(split.bound - split.choosing.sound for split in result.splits)
        console.print(
            f"{unproven} of {len(result.splits)} searches ended at the budget: a better cascade "
            f"may exist, by at most {100 * gap:.1f} points on the choosing half"
        )


def _points(interval: "Interval") -> str:
    ends = f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"
    return f"{100 * interval.estimate:+.1f} ({ends})"
