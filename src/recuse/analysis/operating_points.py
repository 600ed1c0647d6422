"""Ways to abstain compared: operating points, chosen on every other image, and attacks on them.

Needs no network and no image: what was measured of each network lies in the records, which weight
of a mixture answers rightly where in ``samples/mixture.parquet``, and what the adversary did to
each composition at its operating point in ``attacked.parquet``.
"""

from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recuse.analysis.accounting import CoreVerdicts
from recuse.analysis.compositions import core_of
from recuse.analysis.networks import gather, of_its_own
from recuse.analysis.sweeps import (
    GRID,
    Point,
    Tables,
    best,
    compose,
    mixture,
    sweep,
    sweep_pairs,
    verdict,
)
from recuse.analysis.verdicts import Mask, Verdicts, verdicts
from recuse.errors import RecordError
from recuse.records.layout import SAMPLE_TABLES
from recuse.records.run_folder import attack_records
from recuse.records.store import read_parquet, read_records

CORE, ROBUST, TRUNK = "cifar10_resnet56_std", "cifar10_resnet4b_adv2", "ibp_small"
PUBLISHED = (ROBUST, "cifar10_cnn_a_mix", "cifar10_cnn_a_adv_alt")
FINETUNED = ("era-0.1", "era-0.3", "era-1", "trades")
NETS = ("select_adv2", "ace_ibp")
MIXTURE, CONFIDENT = "mixture", "confident"
EPS = ("1/255", "2/255")
LOSS = 0.01
# What still counts as keeping the core's natural accuracy, on the choosing half.
NEAR = 0.03
SHARES = tuple(np.round(np.linspace(0.0, 1.0, 41), 3).tolist())


@dataclass(frozen=True, eq=False)
class Setting:
    """One mechanism at its operating point.

    Attributes:
        name: Row of the table.
        eps: The attacker's radius.
        point: Models, thresholds, natural answers and, where there is an accounting, the sound
            bound per sample.
        share: Weight of the robust network, for a mixture.
    """

    name: str
    eps: str
    point: Point
    share: float | None = None

    @property
    def words(self) -> str:
        """Thresholds or weights."""
        if self.share is not None:
            return f"weight {self.share:g}"
        pairs = zip(self.point.models, self.point.thresholds, strict=True)
        return ", ".join(f"{model} at {tau:.3g}" for model, tau in pairs)


def pool(known: Container[str] = (*PUBLISHED, *FINETUNED)) -> tuple[str, ...]:
    """Every robust network among the known ones that may become a stage."""
    return tuple(name for name in (*PUBLISHED, *FINETUNED) if name in known)


def read_tables(folder: Path) -> Tables:
    """What a run measured of every network, and of the mixtures; what any attack broke is broken.

    Raises:
        RecordError: What every comparison needs is missing, or is damaged.
    """
    found: dict[str, Verdicts] = {}
    judged = gather([verdicts(record) for record in read_records(folder)], attack_records(folder))
    for model in sorted(of_its_own(judged), key=lambda model: not model.meta.radii):
        name = model.meta.model
        found[name] = _joined(found[name], model) if name in found else model
    if lacking := {CORE, ROBUST, TRUNK} - found.keys():
        raise RecordError(f"{folder} holds no record of {min(lacking)!r}")
    kept = (read_parquet(folder / SAMPLE_TABLES / f"{n}.parquet") for n in (MIXTURE, CONFIDENT))
    return Tables(found, *kept)


def _joined(known: Verdicts, other: Verdicts) -> Verdicts:
    """A network with the columns that another record of it adds."""
    more = [name for name in other.frame.columns if name not in known.frame.columns]
    frame = known.frame.join(
        other.frame.select("sample_id", *more), on="sample_id", maintain_order="left"
    )
    return replace(known, frame=frame)


def halves(count: int) -> tuple[Mask, Mask]:
    """Rows on which everything is chosen, and rows on which results are reported."""
    even = np.arange(count) % 2 == 0
    return even, ~even


Candidates = dict[str, list[Point]]


def settings(tables: Tables, eps: str, thresholds: Candidates) -> list[Setting]:
    """Everything that is attacked at one radius, chosen among the candidates of that radius."""
    points: dict[str, Point | None] = {
        "core alone": alone(tables, CORE, eps),
        "robust alone": alone(tables, ROBUST, eps),
        "indicator": compose(tables, CORE, eps, "indicator", [(ROBUST, 0.0)]),
        **chosen_points(core_of(tables[CORE], eps), thresholds),
        "entropy response": entropy_point(tables),
    }
    found = [Setting(name, eps, point) for name, point in points.items() if point is not None]
    return [*found, mixture_setting(tables, eps)]


def chosen_points(core: CoreVerdicts, thresholds: Candidates) -> dict[str, Point | None]:
    """The best sound bound of each mechanism that has a threshold, on the choosing half."""
    rows, _ = halves(len(core.accurate))
    return {name: best(points, rows, core, loss=LOSS) for name, points in thresholds.items()}


def candidates(tables: Tables, eps: str) -> Candidates:
    """Every threshold of every mechanism that the sound accounting can judge."""
    robust = pool(tables.networks)
    singles = sweep(tables, CORE, eps, "robust margin", robust)
    pairs = sweep_pairs(tables, CORE, eps, "robust margin", robust)
    return {
        "robust margin": singles,
        "cascade of two": [*pairs, *singles],
        "softmax response": sweep(tables, CORE, eps, "softmax response", robust),
        "selection network": sweep(tables, CORE, eps, "selection network", [ROBUST]),
        "selection network (ACE-IBP)": sweep(tables, CORE, eps, "selection network", [TRUNK]),
    }


def alone(tables: Tables, name: str, eps: str) -> Point:
    """A network by itself: what it is right and robust about."""
    found = core_of(tables[name], eps)
    return Point("alone", (), (), found.accurate, found.accurate & found.robust)


def entropy_point(tables: Tables) -> Point:
    """The most permissive entropy that keeps the natural accuracy on the choosing half.

    Nothing was measured that bounds entropies over a ball, so there is no sound count.
    """
    stage, fallback = tables[ROBUST], tables[CORE].accurate()
    score, right = -stage.values("entropy"), stage.accurate()
    rows, _ = halves(len(score))
    wanted = fallback[rows].mean() - LOSS
    taus = np.quantile(score, np.linspace(0, 1, 10 * GRID, endpoint=False))
    kept = (t for t in taus if np.where(score >= t, right, fallback)[rows].mean() >= wanted)
    tau = float(next(kept, 0.0))
    return Point("entropy", (ROBUST,), (tau,), np.where(score >= tau, right, fallback), None)


def mixture_setting(tables: Tables, eps: str) -> Setting:
    """The largest weight of the robust network that keeps the natural accuracy, same half."""
    core = core_of(tables[CORE], eps)
    rows, _ = halves(len(core.accurate))
    wanted = core.accurate[rows].mean() - LOSS
    right = {share: verdict(tables.mixture, f"accurate@{share:g}") for share in SHARES}
    share = max((s for s in SHARES if right[s][rows].mean() >= wanted), default=0.0)
    found = mixture(tables, ROBUST, CORE, eps, share)
    point = Point("mixture", (), (), right[share], right[share] & found.robust)
    return Setting("mixture", eps, point, share)


def reachable(tables: Tables, eps: str, thresholds: Candidates) -> Candidates:
    """Every setting that the sound accounting can judge; the core alone is one of each."""
    core, robust = compose(tables, CORE, eps, "indicator", []), pool(tables.networks)
    found = {
        "indicator": sweep(tables, CORE, eps, "indicator", robust),
        **thresholds,
        "softmax over the ball": sweep(tables, CORE, eps, "softmax over the ball", robust),
    }
    return {name: [*points, core] for name, points in found.items()}
