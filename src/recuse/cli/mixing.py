"""``recuse compose MODEL MODEL --data DATA``: mixtures fitted, judged, and written as systems."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recuse.cli.arguments import Device, JudgedData, option_group

if TYPE_CHECKING:
    from recuse.systems import System
    from recuse.systems.mixing import Pair
    from recuse.threat import Threat

INFO = "model_info.json"


@option_group
class Mixing:
    """How two MODELs are mixed.

    Attributes:
        threat: norm:eps of the attacker, for example linf:8/255; by default linf and --eps.
        keep: MixedNUTS: share of the answers that survive an attack which the mixture shall not
            lose.
        max_natural_loss: Our own mixtures: natural accuracy that may be given up against the
            accurate model alone, in points.
        search: Gradient steps of the adversary towards each of its goals.
        seed: Of the halves and of all searches.
    """

    threat: str | None = None
    keep: float = 0.98
    max_natural_loss: float = 2.5
    search: int = 20
    seed: int = 0
    device: Device = "auto"

    def budget(self, eps: str | None) -> "Threat":
        """The attacker's ball.

        Raises:
            ConfigError: None was named.
        """
        from recuse.errors import ConfigError
        from recuse.threat import Threat

        if self.threat is None and eps is None:
            raise ConfigError("name the attacker's budget, for example --threat linf:8/255")
        return Threat.parse(self.threat or f"linf:{eps}")


def compose_models(
    refs: tuple[str, ...], data: JudgedData, mixing: Mixing, *, eps: str | None, out: Path | None
) -> None:
    """Fit mixtures of a robust and an accurate model, judge them, write them as systems.

    Args:
        refs: Two MODELs, the robust one first.
        data: Images; one half fits and the other judges.
        mixing: How.
        eps: Radius of a threat that is not named.
        out: Run folder.

    Raises:
        ConfigError: Not two models with cards, no budget, nowhere to write, or nothing to fit on.
        DataError: Models that do not fit the images.
    """
    from recuse.cli import datasets
    from recuse.cli.console import progress_display
    from recuse.errors import ConfigError
    from recuse.systems.mixing import Pair, mixtures

    if len(refs) != 2 or out is None:
        raise ConfigError(
            "with images, compose takes two MODELs, a robust and an accurate one, and a folder for "
            "what it finds (--out runs/mixed)"
        )
    budget = mixing.budget(eps)
    judged = datasets.to_judge(data, refs, mixing.device)
    members = []
    for network, name, card in judged.members:
        if card is None:
            raise ConfigError(f"{name!r} comes without a card, so it cannot be stored in a system")
        members.append((network, card))
    pair = Pair(members[0], members[1], data.limited(judged.split), budget, mixing.seed)
    with progress_display() as progress:
        found = mixtures(
            pair,
            keep=mixing.keep,
            loss=mixing.max_natural_loss / 100,
            steps=mixing.search,
            run=out,
            progress=progress,
        )
    for system in found:
        _write(system, out / system.name)
    _print(found, pair, out)


def _write(system: "System", folder: Path) -> None:
    from recuse.records.store import write_atomically
    from recuse.systems.results import Publication, measured_of, model_info

    system.save(folder)
    info = model_info(measured_of(system), Publication())
    write_atomically(folder / INFO, f"{json.dumps(info, indent=2)}\n".encode())


def _print(found: "Sequence[System]", pair: "Pair", out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from recuse.analysis.published.robustbench import entries
    from recuse.cli.built import percent
    from recuse.cli.console import table_console

    measured = found[0].measured
    columns = ("natural", "robust (sound)", "robust (attacked)")
    table = Table(f"% of {measured['rows']} images of {measured['data']}", *columns)
    for column in table.columns[1:]:
        column.justify = "right"
    alone = {n: r for system in found for n, r in system.measured["stage_alone"].items()}
    for name, rate in alone.items():
        table.add_row(f"{name} alone", percent(rate["natural"]), "", percent(rate["robust"]))
    for system in found:
        rates = (system.measured[kind] for kind in ("natural", "sound", "attacked"))
        table.add_row(system.name, *map(percent, rates))
    known = entries(measured["data"], pair.budget.norm)
    if known:
        table.add_section()
    for entry in known:
        name = f"published, not ours: {entry.name} at {entry.eps}"
        table.add_row(name, f"{entry.clean:.2f}", "", f"{entry.robust:.2f}")
    table_console().print(table)
    console = Console(soft_wrap=True, highlight=False)
    chosen = found[0].chosen_on
    console.print(f"fitted on {chosen['rows']} other images, within {pair.budget}")
    for system in found:
        console.print(f"wrote {out / system.name}: {system.chosen_on['fit']}", markup=False)
