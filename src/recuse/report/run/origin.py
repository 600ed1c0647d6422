"""Where the numbers of a report come from: records, settings, configuration, environment."""

from collections.abc import Mapping, Sequence
from typing import Any

from recuse.analysis.measured import mean_of
from recuse.analysis.verdicts import Verdicts
from recuse.records.run_folder import RunFolder
from recuse.report.page.blocks import Block, Code, Column, Section, Table
from recuse.report.page.written import written
from recuse.serialize import KIND


def origin(folders: Sequence[RunFolder], models: Sequence[Verdicts]) -> Section:
    """Records, settings, configurations and environments of a report's runs."""
    blocks: list[Block] = [record_table(models), settings(models)]
    for folder in folders:
        if folder.config:
            blocks.append(Code(f"Configuration of {folder.name}", written(dict(folder.config))))
        if folder.environment:
            blocks.append(environment_table(folder.name, folder.environment))
    return Section("How this was computed", tuple(blocks), "Everything needed to compute it again.")


def record_table(models: Sequence[Verdicts]) -> Table:
    """What every record was measured by, and its seed."""
    columns = (
        "run",
        "model",
        "data",
        "attack",
        Column("seed"),
        Column("samples"),
        Column("forward passes", "per sample"),
        Column("backward passes", "per sample"),
        "weights",
        "record",
    )
    rows = tuple(
        (
            m.run,
            m.meta.model,
            m.meta.dataset,
            m.meta.method,
            m.meta.seed,
            m.samples,
            mean_of(m, "forwards"),
            mean_of(m, "backwards"),
            m.meta.weights[:8] or None,
            m.meta.key[:8],
        )
        for m in models
    )
    caption = "Weights and records are named by the first digits of their SHA-256."
    return Table("Records", columns, rows, caption)


def settings(models: Sequence[Verdicts]) -> Code:
    """What each attack or certificate was set to, once for all records that share it."""
    shared: dict[str, list[str]] = {}
    for m in models:
        text = written({KIND: m.meta.method, **dict(sorted(m.meta.settings.items()))})
        shared.setdefault(text, []).append(f"{m.run}/{m.meta.model}")
    parts = (f"{', '.join(names)}:\n{text}" for text, names in shared.items())
    return Code("Settings of the attacks and certificates", "\n\n".join(parts))


def environment_table(run: str, environment: Mapping[str, Any]) -> Table:
    """Versions and machine of a run."""
    rows = tuple((name, text) for name, text in _flat("", environment))
    return Table(f"Environment of {run}", ("what", "value"), rows, folded=True)


def _flat(prefix: str, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            rows += _flat(f"{path}.", value)
        else:
            rows.append((path, "–" if value is None else str(value)))
    return rows
