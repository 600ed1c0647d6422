"""What the networks of a record answered on a fixed probe, by which they are known again.

Equal weights do not make equal functions: the code around them, a setting or the normalisation
may have changed, and a function without weights has nothing else to be told by.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recuse.records.sealed import DamagedError, unsealed

# A network that draws noise differs from itself by a spread that itself varies between openings.
SPREADS = 4.0


@dataclass(frozen=True)
class Answers:
    """Outputs of one network on the probe.

    Attributes:
        outputs: One row per image; null where an output is not finite.
        spread: How far two passes lie apart, in units of the largest output: 0, but for a network
            that draws noise or changes its state.
        tolerance: How far the same network may lie apart on another machine, in the same units.
        differentiable: Its gradient to the images is not 0 throughout. Rounding the images to 8
            bits hardly moves an output, and hides it from every gradient attack.
    """

    outputs: tuple[tuple[float | None, ...], ...]
    spread: float
    tolerance: float
    differentiable: bool = True

    def distance(self, other: "Answers") -> float:
        """The largest difference of two outputs in units of the largest output.

        Infinite where the outputs differ in number or in which are finite.
        """
        mine, theirs = self._flat(), other._flat()
        if [len(row) for row in self.outputs] != [len(row) for row in other.outputs]:
            return math.inf
        if [v is None for v in mine] != [v is None for v in theirs]:
            return math.inf
        pairs = [
            (a, b) for a, b in zip(mine, theirs, strict=True) if a is not None and b is not None
        ]
        largest = max((max(abs(a), abs(b)) for a, b in pairs), default=0.0)
        return max(abs(a - b) for a, b in pairs) / largest if largest else 0.0

    def same_function(self, other: "Answers") -> bool:
        """Whether both may come from one network, allowing for machines and for its own noise."""
        least, most = sorted((self.spread, other.spread))
        tolerance = max(self.tolerance, other.tolerance)
        alike = most <= tolerance + SPREADS * least and self.differentiable == other.differentiable
        return alike and self.distance(other) <= tolerance + SPREADS * most

    def _flat(self) -> list[float | None]:
        return [value for row in self.outputs for value in row]


def changed(kept: Mapping[str, Answers], found: Mapping[str, Answers]) -> str:
    """The first network that answers otherwise than before; empty if none does."""
    if list(kept) != list(found):
        return ", ".join(found)
    return next((name for name in kept if not kept[name].same_function(found[name])), "")


def to_fields(answers: Mapping[str, Answers]) -> dict[str, Any]:
    """Answers as JSON values; :func:`read_answers` gives them back."""
    return {"networks": [{"name": name} | asdict(found) for name, found in answers.items()]}


def read_answers(path: Path) -> dict[str, Answers]:
    """Read the answers that a record keeps.

    Raises:
        DamagedError: Not the answers of networks.
        RecordError: Written by a newer version, or cannot be read.
    """
    fields = unsealed(path)
    try:
        return {str(entry["name"]): _read(entry) for entry in fields["networks"]}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedError(path, f"{type(error).__name__}: {error}") from error


def _read(entry: Mapping[str, Any]) -> Answers:
    rows = tuple(
        tuple(None if value is None else float(value) for value in row) for row in entry["outputs"]
    )
    spread, tolerance = float(entry["spread"]), float(entry["tolerance"])
    return Answers(rows, spread, tolerance, entry["differentiable"] is True)


__all__ = ["Answers", "changed", "read_answers", "to_fields"]
