"""Options that several commands share: the one home of their names, defaults and help texts.

The parser gives every field of a dataclass an option of its own, and the class a heading.
"""

import types
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from tyro.conf import OmitArgPrefixes, Positional, arg

from recuse.errors import ConfigError

if TYPE_CHECKING:
    from recuse.data import Split
    from recuse.engine import Engine, Retries

T = TypeVar("T")
ENGINES = ("local", "ray")
ROLES = ("core", "robust", "standard")


def readable(hint: Any) -> Any:
    """A parameter's type with what ``--help`` says of it in words that a newcomer knows.

    What may be left out is called by its type alone, not ``{None}|FLOAT``, and claims no default
    of None: its description says what happens then.
    """
    inner, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if is_dataclass(inner):
        return Annotated[inner, *notes, OmitArgPrefixes]
    kinds = get_args(inner) if get_origin(inner) in (Union, types.UnionType) else (inner,)
    if type(None) in kinds and not any(isinstance(note, type(arg())) for note in notes):
        (kind,) = (kind for kind in kinds if kind is not type(None))
        words = f"{{{','.join(get_args(kind))}}}" if get_origin(kind) is Literal else ""
        notes.append(arg(metavar=words or kind.__name__.upper(), help_behavior_hint=""))
    return Annotated[inner, *notes] if notes else inner


@dataclass_transform(frozen_default=True)
def option_group(cls: type[T]) -> type[T]:
    """A frozen dataclass of options, of readable types."""
    hints = get_type_hints(cls, include_extras=True)
    cls.__annotations__ = {name: readable(hints[name]) for name in cls.__annotations__}
    return dataclass(frozen=True)(cls)


Model = Annotated[
    Positional[str],
    arg(
        metavar="MODEL",
        help="A .safetensors checkpoint, a name in the models folder (recuse models list), "
        "recuse:NAME, robustbench:NAME/threat, timm:NAME, hub:owner/name, onnx:FILE, or "
        "module:function that returns an nn.Module.",
    ),
]
DataSet = Annotated[
    Positional[str],
    arg(
        metavar="DATA",
        help="A data set by name (recuse data list), alone or with settings as in "
        "gtsrb(crop=true), hub:owner/name, a folder of images or a parquet file.",
    ),
]
DataRoot = Annotated[
    Path | None,
    arg(
        metavar="PATH",
        help="Folder with the data sets; by default the variable RECUSE_DATA.",
        help_behavior_hint="",
    ),
]
Device = Annotated[str, arg(help="auto, cpu or cuda.")]
Repair = Annotated[
    bool,
    arg(
        help="Judge again the images of damaged files of records; else they are named and the "
        "command stops."
    ),
]


@option_group
class Reading:
    """How images are read.

    Attributes:
        limit: Only the first so many images of each part; no others are decoded, but where a set
            that does not come in parts is cut in three.
        size: Of folders and parquet files: side to resize to. Without it all images must have one
            size.
        channels: Of folders and parquet files: 3 for RGB, 1 for grey.
        classes: Of folders and parquet files: a file with names for their classes, JSON or lines
            of class = name (or names alone, for the classes 0, 1, ...). Classes are matched to a
            model's by name.
        skip_unreadable: Leave out images that cannot be read, and list them (exit code 3), instead
            of refusing the data.
    """

    limit: int | None = None
    size: int | None = None
    channels: Literal[1, 3] = 3
    classes: Path | None = None
    skip_unreadable: bool = False
    data_root: DataRoot = None

    @property
    def root(self) -> Path | None:
        """The data folder.

        Raises:
            DataError: It does not exist.
        """
        from recuse.data.roots import find_data_root

        return find_data_root(self.data_root)

    def settings(self) -> dict[str, Any]:
        """What was asked for, as a data set takes it."""
        from recuse.data.class_file import read_class_file

        names = () if self.classes is None else read_class_file(self.classes)
        asked = {"size": self.size, "channels": self.channels, "classes": names}
        asked |= {"skip_unreadable": self.skip_unreadable}
        usual = {"size": None, "channels": 3, "classes": (), "skip_unreadable": False}
        return {name: value for name, value in asked.items() if value != usual[name]}

    def words(self) -> tuple[str, ...]:
        """The same on a command line, but for what leaves images out."""
        typed = {"--size": self.size, "--classes": self.classes}
        typed |= {"--channels": None if self.channels == 3 else self.channels}
        asked = {option: value for option, value in typed.items() if value is not None}
        return tuple(word for option, value in asked.items() for word in (option, str(value)))

    def limited(self, split: "Split") -> "Split":
        """The first so many images."""
        return split if self.limit is None else split.head(self.limit)


@option_group
class DataNames:
    """Data as a person names them.

    Attributes:
        data: A data set by name (recuse data list), alone or with settings as in
            gtsrb(crop=true), hub:owner/name, a folder of images or a parquet file; one that
            does not come in parts is cut in three.
        train_on: Instead of data, a data set to train on, or that the models were trained on; a
            tenth of it is held out to validate.
        test_on: Instead of data, a data set to judge whole, or its test part where it has one; no
            image may be in train_on too.
    """

    data: str | None = None
    train_on: str | None = None
    test_on: str | None = None


@option_group
class NamedData(Reading, DataNames):
    """Data that are named, and how they are read."""


@option_group
class Judging(Reading):
    """What of a data set networks are judged on.

    Attributes:
        part: Of data, what to judge: test, validation, train or all.
        allow_training_data: Judge images that a model's card says it was trained on.
        output: Of a model without a card that returns several outputs, the key or index of its
            logits; log where it returns probabilities, whose logarithm is taken, or log:KEY.
    """

    part: str = "test"
    allow_training_data: bool = False
    output: str | None = None


@option_group
class JudgedData(Judging, NamedData):
    """Data that networks are judged on."""


@option_group
class Recorded:
    """Where rows are kept, and under which name.

    Attributes:
        out: Run folder; the rows go to its records folder.
        name: Name in reports; by default the model's own.
        role: core for the accurate model that always answers, robust for a stage before it.
    """

    out: Path
    name: str | None = None
    role: str = "robust"
    repair: Repair = False

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ConfigError(f"role {self.role!r} is unknown; take {', '.join(ROLES)}")


@option_group
class Computing:
    """Where it is computed; the rows are the same.

    Attributes:
        engine: local, on this machine, or ray, on a Ray cluster.
        workers: Pieces computed at the same time, each in a process of its own; one local worker
            is this process.
        address: HOST:PORT of the Ray cluster, or auto for one that runs here; by default one is
            started on this machine.
        shard_size: Images of a piece, which is what the loss of a worker costs; by default a batch.
        patience: Seconds after which a worker that has not answered is given up and its piece is
            computed again; by default an hour, and for a sweep never.
        cpus: Processors that Ray keeps for each piece; by default one.
        gpus: GPUs that Ray keeps for each piece, which may be a part of one, such as 0.5; by
            default one where --device is cuda.
    """

    engine: str = "local"
    workers: int = 1
    address: str | None = None
    shard_size: int | None = None
    patience: float | None = None
    cpus: float | None = None
    gpus: float | None = None

    def chosen(self, device: str, *, retries: "Retries | None" = None) -> "Engine":
        """The engine that computes.

        Args:
            device: Where networks compute, as typed; a worker of a cluster gets a GPU of its own
                where it is one.
            retries: What becomes of lost pieces where ``patience`` does not say it.

        Raises:
            ConfigError: An unknown engine or device, or settings that this engine does not take.
        """
        from recuse.engine import InProcess, Processes, RayTasks, Retries

        if self.engine not in ENGINES:
            raise ConfigError(f"engine {self.engine!r} is unknown; take {' or '.join(ENGINES)}")
        again = retries or Retries()
        if self.patience is not None:
            again = replace(again, patience=self.patience)
        if self.engine == "ray":
            return RayTasks(
                self.workers,
                self.address,
                self.shard_size,
                cpus=1.0 if self.cpus is None else self.cpus,
                gpus=_gpus(device, self.gpus),
                retries=again,
            )
        for name in ("address", "cpus", "gpus"):
            if getattr(self, name) is not None:
                raise ConfigError(f"--{name} is of a Ray cluster; add --engine ray")
        if self.workers != 1:
            return Processes(self.workers, self.shard_size, again)
        if self.patience is not None:
            raise ConfigError("patience is with other processes; add --workers 2, or leave it out")
        return InProcess(self.shard_size)


def _gpus(device: str, asked: float | None) -> float:
    """GPUs that each worker of a cluster needs; without it, Ray hides them from it."""
    from recuse.cli import options

    placed = options.device(device)
    if placed.type != "cpu" and placed.index:
        raise ConfigError(
            f"device {device!r}: Ray hands out the GPUs of its machines; write --device cuda"
        )
    if asked is None:
        return float(placed.type == "cuda")
    if bool(asked) != (placed.type == "cuda"):
        raise ConfigError(f"--gpus {asked:g} with --device {device}: a GPU is for --device cuda")
    return asked
