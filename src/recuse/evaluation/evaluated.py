"""What judging returns: the record, which also says its rates."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recuse.records.schema import Record

if TYPE_CHECKING:
    from recuse.analysis.measured import Measured


@dataclass(frozen=True)
class Evaluated(Record):
    """A record that was just judged, or was found finished."""

    def rates(self) -> "list[Measured]":
        """Rates with 95 % intervals, one entry a radius that was asked for, ascending.

        Each has ``natural``, ``robust``, ``robust_inaccuracy`` (wrong and unchanged), ``stable``
        and ``selected`` (unchanged at twice the radius), with ``estimate``, ``low`` and ``high``.
        """
        from recuse.analysis.measured import measure
        from recuse.analysis.verdicts import verdicts

        return measure(verdicts(self))


__all__ = ["Evaluated"]
