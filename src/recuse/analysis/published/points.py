"""The points of Figures 2–4 and 7–9: from the logs, and beside the published points."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recuse.analysis.abstainers import TAUS, Abstainer, indicator, network, response
from recuse.analysis.accounting import Account, CoreVerdicts
from recuse.analysis.compositions import core_of
from recuse.analysis.metrics import rate, robust_accuracy, robust_inaccuracy
from recuse.analysis.published.logs import PublishedLog, PublishedLogs
from recuse.analysis.verdicts import add_radii
from recuse.errors import ConfigError, RecordError
from recuse.records.reference_names import radius_of

KEYS = ("dataset", "log_dir", "fig", "eps", "method", "tau")
RATES = (
    "rob_inacc",
    "rob_acc",
    "r_sel",
    "r_acc_sel",
    "comp_nat",
    "comp_rob",
    "cert_sel",
    "cert_acc_sel",
)
_AGREES = 0.005


@dataclass(frozen=True)
class Abstaining:
    """An abstaining model of the logs at one radius, with the core it can stand before.

    Attributes:
        entry: The log of its answers.
        published: From verdicts as published.
        repaired: From verdicts made monotone.
        core: The core as published; None where there is none for this radius.
        core_repaired: The core with verdicts made monotone.
    """

    entry: PublishedLog
    published: Abstainer
    repaired: Abstainer
    core: CoreVerdicts | None
    core_repaired: CoreVerdicts | None

    @property
    def alone(self) -> Account:
        """The model without its selector and its core, verdicts made monotone."""
        stage = self.repaired.stage
        return Account(stage.accurate, stage.accurate & stage.robust)

    @property
    def name(self) -> str:
        """``model, RI`` or ``model, SR τ=0.44``."""
        tau = "" if self.published.tau is None else f" τ={self.published.tau:.2f}"
        return f"{self.entry.name}, {self.published.method}{tau}"


def abstaining(book: PublishedLogs, dataset: str) -> list[Abstaining]:
    """Every abstaining model of a data set, at every radius that its logs allow."""
    found: list[Abstaining] = []
    for entry in book.attacked(dataset):
        if entry.raw.labelled and entry is not book.core(dataset):
            for eps in entry.raw.radii():
                found += _at(book, entry, eps)
    return found


def _at(book: PublishedLogs, entry: PublishedLog, eps: str) -> Iterator[Abstaining]:
    cores = _cores(book, entry, eps)
    if entry.selective:
        try:
            yield Abstaining(entry, network(entry.raw, eps), network(entry.repaired, eps), *cores)
        except RecordError:
            return  # its selector was judged at smaller radii only
    elif entry.raw.has("robust", add_radii(eps, eps)):
        yield Abstaining(entry, indicator(entry.raw, eps), indicator(entry.repaired, eps), *cores)
    confidence = book.confidence_of(entry)
    if confidence and confidence.raw.has("adv_confidence", add_radii(eps, eps)):
        for tau in TAUS:
            raw = response(entry.raw, confidence.raw, eps, tau)
            repaired = response(entry.repaired, confidence.repaired, eps, tau)
            yield Abstaining(entry, raw, repaired, *cores)


def _cores(
    book: PublishedLogs, entry: PublishedLog, eps: str
) -> tuple[CoreVerdicts | None, CoreVerdicts | None]:
    core = book.core(entry.data)
    if core is None or not core.raw.has("robust", eps):
        return None, None
    return core_of(core.raw, eps), core_of(core.repaired, eps)


@dataclass(frozen=True)
class PublishedPoint:
    """A published point beside the one from the logs.

    Attributes:
        keys: What identifies it.
        published: Rates in percent, as given.
        computed: The same rates from the logs; empty where a log is missing.
        reason: Why nothing was computed.
    """

    keys: dict[str, Any]
    published: dict[str, float]
    computed: dict[str, float]
    reason: str = ""

    @property
    def difference(self) -> float | None:
        """Largest absolute difference in points; None where nothing was computed."""
        if not self.computed:
            return None
        return max(abs(self.computed[name] - value) for name, value in self.published.items())

    @property
    def status(self) -> str:
        """``match``, ``mismatch`` or ``missing-log``."""
        if self.difference is None:
            return "missing-log"
        return "match" if self.difference <= _AGREES else "mismatch"


def compare_points(path: Path, book: PublishedLogs) -> list[PublishedPoint]:
    """Compute every published point again.

    Raises:
        RecordError: Not a CSV, or a column is missing.
    """
    try:
        frame = pl.read_csv(path, infer_schema_length=None, schema_overrides={"eps": pl.String})
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RecordError(f"{path} cannot be read as CSV ({str(error).splitlines()[0]})") from error
    for column in KEYS:
        if column not in frame.columns:
            raise RecordError(f"{path}: column {column!r} is missing")
    return [_compare(row, book) for row in frame.iter_rows(named=True)]


def _compare(row: dict[str, Any], book: PublishedLogs) -> PublishedPoint:
    keys = {name: row[name] for name in KEYS}
    published = {n: float(row[n]) for n in RATES if row.get(n) is not None}
    try:
        eps = radius_of(str(row["eps"]))
        computed = _rates(book, str(row["log_dir"]), eps, str(row["method"]), row["tau"])
    except (RecordError, ConfigError) as error:
        return PublishedPoint(keys, published, {}, str(error))
    if missing := [name for name in published if name not in computed]:
        return PublishedPoint(keys, published, {}, f"{missing[0]} cannot be computed")
    return PublishedPoint(keys, published, {name: computed[name] for name in published})


def _rates(
    book: PublishedLogs, folder: str, eps: str, method: str, tau: float | None
) -> dict[str, float]:
    entry = book.find(folder, "attack", eps)
    if method not in {"RI", "SR", "SN"}:
        accurate, robust = entry.raw.accurate(), entry.raw.robust(eps)
        rates = {
            "rob_inacc": robust_inaccuracy(accurate, robust),
            "rob_acc": robust_accuracy(accurate, robust),
        }
        return {name: 100 * value for name, value in rates.items()}
    if method == "RI":
        model = indicator(entry.raw, eps)
    elif method == "SN":
        model = network(entry.raw, eps)
    else:
        model = response(entry.raw, book.find(folder, "confidence", eps).raw, eps, float(tau or 0))
    rates = {"r_sel": model.selection, "r_acc_sel": model.accuracy}
    core = _cores(book, entry, eps)[0]
    if core is not None:
        account = model.paper(core)
        rates |= {"comp_nat": rate(account.natural), "comp_rob": rate(account.robust)}
    if entry.raw.radii("selected_certified"):
        proven = network(entry.raw, eps, certified=True)
        rates |= {"cert_sel": proven.selection, "cert_acc_sel": proven.accuracy}
    return {name: 100 * value for name, value in rates.items()}


def points_csv(points: Sequence[PublishedPoint]) -> bytes:
    """Published points, the computed ones beside them, and whether they agree."""
    rows = [
        {
            **p.keys,
            **{name: p.published.get(name) for name in RATES},
            **{f"{name}_computed": p.computed.get(name) for name in RATES},
            "status": p.status,
        }
        for p in points
    ]
    return pl.DataFrame(rows, infer_schema_length=None).write_csv(float_precision=6).encode()
