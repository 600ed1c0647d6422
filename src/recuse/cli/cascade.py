"""``recuse cascade``: which models in which order."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

# Mechanisms whose score is what a search finds.
SEARCHING = ("robust-margin", "robust-softmax")

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from recuse.analysis.accounting import Difference
    from recuse.analysis.cascade_pool import Pool
    from recuse.analysis.intervals import Interval
    from recuse.analysis.split_results import HalfRates, SearchResult


def search(
    logs: tuple[Path, ...],
    dataset: str,
    eps: str,
    max_natural_loss: float = 0.0,
    sure: float = 0.5,
    stages: int = 2,
    splits: int = 20,
    json: Path | None = None,
    core: str | None = None,
    mechanisms: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: indicator)")] = (),
    thresholds: int = 40,
    count: str = "sound",
    front: bool = False,
    together: bool = False,
    seed: int = 0,
    budget: int = 50_000,
) -> None:
    """Find the best system of a few robust models and an accurate core.

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
        sure: How sure the choosing half must be, one-sided, that no more is given up on other
            images. The system chosen is the one that is best there, and gives up somewhat more
            elsewhere: 0.5 takes the loss as it is counted, 0.95 keeps to it on most other halves.
        stages: At most this many stages in front of the core.
        splits: Random halves to average over.
        json: Write every split and the means to this file.
        core: The model that always answers; by default the most accurate standard model.
        mechanisms: What a model may stand behind or in: indicator; any-radius (an indicator of each
            other radius that was judged with eps added); softmax, entropy, robust-margin,
            robust-softmax, network (a selection network); mixture (of probabilities with the
            core's), one-hot-mixture (with the core's bare answer, which asks how far the model's
            class is ahead of the core's). All but the indicators need records made by recuse
            evaluate --margins. What each gives alone is printed beside all of them, and where one
            alone is better beyond the interval, its systems are what is taken. With --count
            attacked: of which the attacked systems are to be, by default any.
        thresholds: Thresholds of each selector, and weights of each mixture.
        count: sound, the lower bound of every system; or attacked, what adversaries left of the
            systems that recuse attack met in these runs.
        front: Also say what is found at losses from 0 to 15 points, all mechanisms together.
        together: Take what all mechanisms together find even where one alone is better.
        seed: Of the first split.
        budget: Partial cascades to extend per split; a search that ends early says how much
            better another cascade could be.
    """
    from recuse.analysis.frontier import ALL, LOSSES, ahead

    pool = _pool(logs, count, mechanisms, thresholds, dataset=dataset, eps=eps, core=core)
    share = max_natural_loss / (100 if max_natural_loss >= 1 else 1)
    names = (ALL, *(pool.mechanisms if len(pool.mechanisms) > 1 else ()))
    questions = {name: (name, share) for name in names}
    questions |= {f"{100 * loss:g} points": (ALL, loss) for loss in LOSSES if front}
    found = _searched(
        pool, questions, max_stages=stages, splits=splits, sure=sure, seed=seed, budget=budget
    )
    result, along = found[ALL], [found[name] for name in questions if name not in names]
    each = {name: found[name] for name in names[1:]}
    lead = None if together else ahead(result, each)
    if json is not None:
        _write(json, result, along, lead, found[lead or ALL])
    _print(result, each, lead)
    if along:
        _print_front(along)


def _write(
    path: Path,
    result: "SearchResult",
    along: "Sequence[SearchResult]",
    lead: str | None,
    taken: "SearchResult",
) -> None:
    """The search over all; a front and what is taken instead, where there are any."""
    import json

    from recuse.records.store import write_atomically

    kept = ("max_natural_loss", "kept", "mean", "deviation")
    points = [{name: one.as_dict()[name] for name in kept} | _most_often(one) for one in along]
    found = result.as_dict() | ({"front": points} if points else {})
    if lead:
        own = taken.as_dict()
        found["taken"] = {"mechanism": lead} | {name: own[name] for name in (*kept, "splits")}
    write_atomically(path, json.dumps(found, indent=1).encode())


def _searched(
    pool: "Pool", questions: "Mapping[str, tuple[str, float]]", *, splits: int, **how: Any
) -> "dict[str, SearchResult]":
    """What each question finds: one mechanism or all of them, at an allowed natural loss."""
    from recuse.analysis.cascade_splits import search_splits
    from recuse.analysis.frontier import only
    from recuse.cli.console import progress_display

    found = {}
    with progress_display() as progress:
        for title, (name, loss) in questions.items():

            def report(done: int, title: str = title) -> None:
                progress("cascade search", done, splits, title)

            found[title] = search_splits(
                only(pool, name), max_natural_loss=loss, splits=splits, report=report, **how
            )
    return found


def _most_often(result: "SearchResult") -> dict[str, Any]:
    """The system that most halves chose, and how many did."""
    ((system, times), *_) = _chosen(result).most_common(1)
    return {"system": system, "times": times}


def _chosen(result: "SearchResult") -> "Counter[str]":
    return Counter(
        f"{split.alone} alone"
        if split.better_alone
        else split.mixture or " → ".join((*split.stages, result.pool.core_name))
        for split in result.splits
    )


def _pool(
    logs: "Sequence[Path]",
    count: str,
    mechanisms: tuple[str, ...],
    thresholds: int,
    **how: Any,
) -> "Pool":
    """Every model of the logs that may be in a system, or every system that was attacked."""
    from recuse.analysis.attacked_pool import attacked_pool
    from recuse.analysis.cascade_pool import build_pool
    from recuse.errors import ConfigError
    from recuse.records.run_folder import attack_records
    from recuse.records.sources import load_records

    records = [record for path in logs for record in load_records(path)]
    attacks = [record for path in logs for record in attack_records(path)]
    if count == "sound":
        chosen = mechanisms or ("indicator",)
        return build_pool(records, attacks=attacks, mechanisms=chosen, thresholds=thresholds, **how)
    if count != "attacked":
        raise ConfigError(f"count {count!r} is unknown; take sound or attacked")
    return attacked_pool(records, attacks, mechanisms=mechanisms, **how)


def _print(result: "SearchResult", each: "Mapping[str, SearchResult]", lead: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from recuse.analysis.cascade_differences import cascade_over_cascade
    from recuse.analysis.split_results import AS_COUNTED

    pool, mean, spread = result.pool, result.mean, result.deviation
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{pool.dataset}, {pool.norm} {pool.eps}: {len(pool.names)} models, core {pool.core_name}, "
        f"at most {result.max_stages} stages, natural loss at most "
        f"{100 * result.max_natural_loss:g} points on the choosing half"
        + f", sure to {100 * result.sure:g} %"
        * (result.sure > AS_COUNTED)
    )
    table = Table("reporting half, %", "natural", f"robust ({pool.count})", "best system has more")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, natural, robust in (
        ("core alone", "core_natural", "core_robust"),
        ("robust model alone", "alone_natural", "alone_robust"),
        ("best system", "natural", "sound"),
    ):
        table.add_row(name, *_spread(mean, spread, natural, robust), "")
    for name, one in each.items():
        over = cascade_over_cascade(result, one).robust
        rates = _spread(one.mean, one.deviation, "natural", "sound")
        table.add_row(f"best by {name} alone", *rates, _points(over))
    console.print(table)
    _say(result, console)
    if lead:
        console.print(_instead(lead, cascade_over_cascade(each[lead], result)))
    _say_chosen(each[lead] if lead else result, console)


def _print_front(along: "Sequence[SearchResult]") -> None:
    """What is found at each allowed loss: the front between robust network and core."""
    from rich.table import Table

    from recuse.cli.console import table_console

    count = along[0].pool.count
    table = Table("loss asked for", "natural", f"robust ({count})", "most often", "halves")
    for column in (0, 1, 2, 4):
        table.columns[column].justify = "right"
    for one in along:
        rates = _spread(one.mean, one.deviation, "natural", "sound")
        most = _most_often(one)
        asked = f"{100 * one.max_natural_loss:g} points"
        table.add_row(asked, *rates, most["system"], f"{most['times']} of {len(one.splits)}")
    table_console().print(table)


def _spread(mean: "HalfRates", spread: "HalfRates", *names: str) -> list[str]:
    return [f"{100 * getattr(mean, n):.1f} ± {100 * getattr(spread, n):.1f}" for n in names]


def _say(result: "SearchResult", console: "Console") -> None:
    """Differences, and what is left open."""
    from recuse.analysis.cascade_differences import cascade_over_alone, cascade_over_core

    console.print(_given_up(result))
    for words, over in (
        ("the core alone", cascade_over_core(result)),
        ("the robust model alone", cascade_over_alone(result)),
    ):
        console.print(
            f"best system against {words}: {_points(over.natural)} natural, "
            f"{_points(over.robust)} robust (paired, 95 %)"
        )
    if looking := [m for m in result.pool.mechanisms if m in SEARCHING]:
        console.print(
            f"{' and '.join(looking)}: counted by the searches that the records were made with; "
            "deployed with a weaker one, such as the single search of recuse build, a stage "
            "answers more images than were counted, wrong ones among them"
        )
    if unproven := sum(not split.optimal for split in result.splits):
        gap = max(split.bound - split.choosing.sound for split in result.splits)
        console.print(
            f"{unproven} of {len(result.splits)} searches ended at the budget: a better cascade "
            f"may exist, by at most {100 * gap:.1f} points on the choosing half"
        )


def _say_chosen(taken: "SearchResult", console: "Console") -> None:
    if taken.better_alone:
        console.print(
            f"in {taken.better_alone} of {len(taken.splits)} halves a model alone keeps within "
            "the allowed loss and is more robust than the system chosen: there it is the better "
            "choice, and what is taken"
        )
    for system, times in _chosen(taken).most_common(5):
        console.print(f"{times}× {system}")


def _instead(lead: str, over: "Difference") -> str:
    """That one mechanism alone is what is taken, why, and how to overrule it."""
    return (
        f"{lead} alone is better than all in one search: {_points(over.natural)} natural, "
        f"{_points(over.robust)} robust (paired, 95 %); its systems are listed here and taken. "
        "Each was chosen on its half, the mechanism by all reporting halves, on which its own "
        "rates are that much too good; --together takes all in one search"
    )


def _given_up(result: "SearchResult") -> str:
    """What the loss that was asked for on one half became on the other."""
    lost = result.mean.core_natural - result.mean.natural
    said = (
        f"natural loss on the reporting half: {100 * lost:.1f} points; at most the "
        f"{100 * result.max_natural_loss:g} asked for in {result.kept} of {len(result.splits)}"
    )
    more = lost > result.max_natural_loss
    return said + ": more than asked for; a higher --sure gives up less" * bool(more)


def _points(interval: "Interval") -> str:
    ends = f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"
    return f"{100 * interval.estimate:+.1f} ({ends})"
