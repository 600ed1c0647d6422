"""What adaptive adversaries left of a composition, sample by sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recuse.analysis.verdicts import Mask, Verdicts, same_question, verdicts
from recuse.radius import parse_radius
from recuse.records.schema import Record, joint_weights

ADAPTIVE = "adaptive"
_INDICATOR = "RobustnessIndicator"


@dataclass(frozen=True)
class Attacked:
    """Verdicts of all adversaries that met one composition, point by point the worst.

    Attributes:
        met: The sample was attacked.
        left: It was, and the composition stayed right at every point that was found.
    """

    met: Mask
    left: Mask

    def refutes(self, robust: Mask) -> Mask:
        """Samples that an accounting calls robust and an adversary broke."""
        return np.asarray(robust & self.met & ~self.left)


def attacked(chain: Sequence[Verdicts], attacks: Sequence[Record], eps: str) -> Attacked | None:
    """What adversaries found on the composition of these networks behind robustness indicators.

    Args:
        chain: The stages in order, then the core, judged on the same samples.
        attacks: Records of attacks on compositions; those on other networks, data or selectors
            are passed over.
        eps: The attacker's radius, which is the selectors' radius too.

    Returns:
        Verdicts in the order of the chain's samples; None where no attack met it.
    """
    row = {sample: number for number, sample in enumerate(chain[0].ids)}
    met, broken = np.zeros(len(row), np.bool_), np.zeros(len(row), np.bool_)
    for record in attacks:
        found = verdicts(record)
        if not _is_of(found, chain, eps):
            continue
        shared = [number for number, sample in enumerate(found.ids) if sample in row]
        rows = [row[found.ids[number]] for number in shared]
        met[rows] = True
        broken[rows] |= found.broken(eps)[shared]
    return Attacked(met, met & ~broken) if met.any() else None


def _is_of(found: Verdicts, chain: Sequence[Verdicts], eps: str) -> bool:
    meta = found.meta
    return (
        meta.attack == ADAPTIVE
        and meta.weights == joint_weights([model.meta.weights for model in chain])
        and same_question(meta, chain[0].meta)
        and found.has("robust", eps)
        and all(_plain(selector, eps) for selector in meta.settings.get("selectors", []))
    )


def _plain(selector: dict[str, Any], eps: str) -> bool:
    """Whether it is the indicator that an accounting at eps counts: of the attacker's radius.

    A radius that was left out is the attacker's.
    """
    radius = selector.get("radius")
    own = radius is None or parse_radius(radius) == parse_radius(eps)
    return selector.get("kind") == _INDICATOR and own
