"""What a record is: one parquet row per sample, and one ``meta`` that says what was measured.

Columns (all but ``sample_id`` may be absent or null when unknown):

======================== ====== ============================================================
``sample_id``            str    stable id, unique within the record
``label``                i32    true class
``prediction``           i32    F(x); null where a smoothed classifier abstained
``accurate``             bool   F(x) = y (kept apart from ``label``: published logs lack labels)
``confidence``           f32    softmax of F(x) at x
``robust@R``             bool   no adversarial point found within R (``"1/255"``, ``"0.25"``);
                                null where ``flat``: nothing was found without a usable gradient
``broken_by``            i32    member of a composition that answered wrongly at the point found
                                for it, the core last; null where none was found
``flat``                 bool   some radius is not judged, for want of a usable gradient
``adv_confidence@R``     f32    largest wrong-class or overall softmax found within R (APGDconf)
``margin``               f64    p_y - max_other p at x, y the label
``entropy``              f64    of softmax f(x) at x, in nats
``worst_margin@R``       f64    smallest p_y - max_other p found within R, y the label; null where
                                nothing could be searched
``worst_confidence@R``   f64    largest probability of a class other than the label found within R
``least_confidence@R``   f64    smallest probability of the label found within R
``stable_margin@R``      f64    as ``worst_margin@R`` with y the prediction: what a check that knows
                                no label finds
``stable_confidence@R``  f64    smallest probability of the prediction found within R
``largest_entropy@R``    f64    upper bound on the entropy within R
``least_score@R``        f64    lower bound on a selection network's score within R
``largest_score@R``      f64    upper bound on it
``certified@R``          bool   proven constant on the ball of radius R
``recheck``              str    what further searches said where the attack's said robust, see
                                :class:`Recheck`; null where none was asked
``recheck_passes``       i32    forward and backward passes they spent
``margin_passes``        i32    forward and backward passes these three cost, all radii together
``radius``               f64    certified radius in ``meta.norm``
``selected``             bool   a selector of its own accepted x
``selected_robust@R``    bool   ... and no attack within R made it reject
``selected_certified@R`` bool   ... provably
``score``                f64    a selector's score at x; for certificates the radius
``samples``              i64    noisy forward passes spent on a certificate
``forwards``             i32    forward passes spent
``backwards``            i32    backward passes to the input spent
======================== ====== ============================================================
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any, get_args

import polars as pl
from polars.datatypes import DataTypeClass

from recuse.errors import RecordError
from recuse.radius import Norm, format_radius, parse_radius
from recuse.records.parquet import POLARS_ERRORS

SCHEMA_VERSION = 1

COLUMNS: dict[str, type[pl.DataType]] = {
    "sample_id": pl.String,
    "label": pl.Int32,
    "prediction": pl.Int32,
    "accurate": pl.Boolean,
    "confidence": pl.Float32,
    "flat": pl.Boolean,
    "recheck": pl.String,
    "recheck_passes": pl.Int32,
    "margin": pl.Float64,
    "entropy": pl.Float64,
    "margin_passes": pl.Int32,
    "broken_by": pl.Int32,
    "radius": pl.Float64,  # single precision may raise a radius, and so claim what is not proven
    "selected": pl.Boolean,
    "score": pl.Float64,
    "samples": pl.Int64,
    "forwards": pl.Int32,
    "backwards": pl.Int32,
}
RADIUS_COLUMNS: dict[str, type[pl.DataType]] = {
    "robust": pl.Boolean,
    "adv_confidence": pl.Float32,
    "worst_margin": pl.Float64,  # double precision: rounding must not promise more
    "worst_confidence": pl.Float64,
    "least_confidence": pl.Float64,
    "stable_margin": pl.Float64,
    "stable_confidence": pl.Float64,
    "largest_entropy": pl.Float64,
    "least_score": pl.Float64,
    "largest_score": pl.Float64,
    "certified": pl.Boolean,
    "selected_robust": pl.Boolean,
    "selected_certified": pl.Boolean,
}


class Recheck(StrEnum):
    """What further searches said of an answer that an attack called robust."""

    HELD = "held"
    BLACK_BOX = "black box"
    FEWER_STEPS = "fewer steps"
    RANDOM = "random"


@dataclass(frozen=True)
class RecordMeta:
    """What a record measured; everything that changes a verdict is part of its key.

    Attributes:
        model: Name shown to people; unique among the records compared in one report.
        dataset: Data set and split, for example ``"cifar10/test"``.
        method: ``"apgd-ce"``, ``"apgd-dlr"``, ``"ensemble"``, ``"smoothing"``, ``"ibp"``, ...;
            older records say ``"apgd"`` whatever it ascended.
        norm: ``"linf"`` or ``"l2"``.
        radii: Radii judged, ascending, as canonical text.
        weights: SHA-256 of the model's weights; empty for imported logs.
        settings: Attack or certification settings, JSON values only.
        seed: Seed of the evaluation.
        tags: What a figure groups by, not part of the key: ``loss``, ``beta``, ``base``,
            ``train_eps``, ``augmentation``, ``sigma``, ``role``, ``log``, ``quality`` ...; of a
            composition ``members``, the weights of each in the order in which they answer.
    """

    model: str
    dataset: str
    method: str
    norm: str
    radii: tuple[str, ...] = ()
    weights: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    tags: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all((self.model, self.dataset, self.method)):
            raise RecordError("model, dataset and method of a record must not be empty")
        if self.norm not in get_args(Norm):
            raise RecordError(f"norm {self.norm!r} of {self.model!r} is unknown; linf and l2 are")
        values = [parse_radius(r) for r in self.radii]
        if values != sorted(set(values)):
            raise RecordError(
                f"radii of {self.model!r} must ascend without repeats, got {self.radii}"
            )

    @property
    def key(self) -> str:
        """16 hex digits that name this measurement; a rerun with the same key resumes it."""
        parts = {k: v for k, v in self.fields().items() if k != "tags"} | {"schema": SCHEMA_VERSION}
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def search(self) -> str:
        """The attack with its settings, as far as the record says: equal for the same one alone."""
        settings = json.dumps(self.settings.get("attack"), sort_keys=True, default=str)
        return f"{self.method} {settings}"

    def fields(self) -> dict[str, Any]:
        """Its fields as JSON values by their names on disk, where the method is ``attack``."""
        return {_ON_DISK.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_fields(cls, raw: Mapping[str, Any]) -> "RecordMeta":
        """The meta whose fields as JSON values these are.

        Raises:
            RecordError: Unknown or missing fields, or values of another kind.
        """
        if odd := sorted(set(raw) - set(_KINDS)):
            raise RecordError(f"field {odd[0]!r} is unknown")
        if lacking := sorted({"model", "dataset", "attack", "norm", "radii"} - set(raw)):
            raise RecordError(f"field {lacking[0]!r} is missing")
        for name, value in raw.items():
            if not isinstance(value, _KINDS[name]) or isinstance(value, bool):
                raise RecordError(f"{name} must be a {_KINDS[name].__name__}, got {value!r}")
        if odd := [radius for radius in raw["radii"] if not isinstance(radius, str)]:
            raise RecordError(f"radii must be text such as '2/255', got {odd[0]!r}")
        names = {on_disk: name for name, on_disk in _ON_DISK.items()}
        read = {names.get(name, name): value for name, value in raw.items()}
        return cls(**{**read, "radii": tuple(read["radii"])})


# Fields that go by another name in files, which are older than their name here.
_ON_DISK = {"method": "attack"}
# What JSON makes of each field of the meta.
_KINDS: dict[str, type] = {
    "model": str,
    "dataset": str,
    "attack": str,
    "norm": str,
    "radii": list,
    "weights": str,
    "settings": dict,
    "seed": int,
    "tags": dict,
}


@dataclass(frozen=True)
class Record:
    """One measurement: its meta and one row per sample, sorted by ``sample_id``."""

    meta: RecordMeta
    frame: pl.DataFrame

    def column(self, kind: str, radius: str | float) -> str:
        """Name of a per-radius column, for example ``column("robust", 1 / 255)``."""
        return radius_column(kind, radius)

    def has(self, kind: str, radius: str | float) -> bool:
        """Whether this record judged ``radius`` for ``kind``."""
        return radius_column(kind, radius) in self.frame.columns


def radius_column(kind: str, radius: str | float) -> str:
    """Column name of a per-radius quantity.

    >>> radius_column("robust", 2 / 255)
    'robust@2/255'
    """
    return f"{kind}@{format_radius(parse_radius(radius))}"


def column_type(name: str) -> DataTypeClass:
    """Polars type of a record column.

    Raises:
        RecordError: The column is not part of the schema.
    """
    kind, at, _ = name.partition("@")
    table = RADIUS_COLUMNS if at else COLUMNS
    if kind not in table:
        known = ", ".join([*COLUMNS, *(f"{k}@R" for k in RADIUS_COLUMNS)])
        raise RecordError(f"record column {name!r} is unknown; known columns: {known}")
    return table[kind]


def make_record(meta: RecordMeta, columns: dict[str, Any]) -> Record:
    """Build a record from columns, with the schema's types and checks.

    Raises:
        RecordError: An unknown column, columns of different lengths, duplicate or missing
            sample ids, or verdicts that are robust at a radius beyond one already broken.
    """
    try:
        frame = pl.DataFrame(columns, schema_overrides={c: column_type(c) for c in columns})
    except (*POLARS_ERRORS, TypeError, ValueError) as error:
        raise RecordError(
            f"record of {meta.model!r}: columns do not fit together: {error}"
        ) from error
    return check_record(Record(meta, frame))


def check_record(record: Record) -> Record:
    """Sort by sample id and check the invariants every record keeps.

    Raises:
        RecordError: See :func:`make_record`.
    """
    meta, frame = record.meta, record.frame
    if "sample_id" not in frame.columns or frame["sample_id"].null_count():
        raise RecordError(f"record of {meta.model!r}: sample ids are missing")
    if frame["sample_id"].is_duplicated().any():
        twice = frame.filter(frame["sample_id"].is_duplicated())["sample_id"][0]
        raise RecordError(f"record of {meta.model!r}: sample id {twice!r} occurs more than once")
    if (count := non_monotone(frame)) > 0:
        raise RecordError(
            f"record of {meta.model!r}: {count} verdicts are robust beyond a broken radius; "
            "carry the break outward (records.reference_logs does so for imported logs)"
        )
    return Record(meta, frame.sort("sample_id"))


def joint_weights(weights: Sequence[str]) -> str:
    """What a record of several networks at work together gives as its ``weights``.

    Args:
        weights: SHA-256 of each network's weights, in the order in which they answer.
    """
    return hashlib.sha256(" ".join(weights).encode()).hexdigest()


def robust_columns(frame: pl.DataFrame, kind: str = "robust") -> list[str]:
    """The per-radius columns of one kind, radii ascending."""
    names = [c for c in frame.columns if c.startswith(f"{kind}@")]
    return sorted(names, key=lambda c: parse_radius(c.partition("@")[2]))


def non_monotone(frame: pl.DataFrame) -> int:
    """Count verdicts that are robust at a radius although a smaller one is broken.

    Each adjacent pair of judged radii of each sample counts once.
    """
    names = robust_columns(frame)
    return sum(int((~frame[a] & frame[b]).sum()) for a, b in pairwise(names))
