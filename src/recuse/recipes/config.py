"""A complete run as a frozen value: what to train, what to judge, by what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recuse.attacks import ATTACKS, CRITERIA, LOSSES, MaskingCheck
from recuse.data import DATASETS, Source
from recuse.data.augment import AUGMENTATIONS
from recuse.errors import ConfigError
from recuse.evaluation import Evaluation
from recuse.models.architectures import Architecture, architecture_classes
from recuse.threat import Threat
from recuse.training import OBJECTIVES, TRAINING_CLASSES, TrainConfig


@dataclass(frozen=True)
class Fresh:
    """Weights drawn anew.

    Attributes:
        architecture: The network.
        mean: Normalisation inside the network, per channel; none if empty.
        std: Likewise.
    """

    architecture: Architecture
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class Pretrained:
    """Weights of a checkpoint or of a network in the models folder.

    Attributes:
        ref: As :func:`recuse.models.zoo.load_model` takes it.
    """

    ref: str


@dataclass(frozen=True)
class Earlier:
    """Weights of a model that the same run has trained before.

    Attributes:
        name: Its name in the run.
    """

    name: str


@dataclass(frozen=True)
class ModelPlan:
    """One model of a run.

    Attributes:
        name: Unique in the run; names the checkpoint and the record.
        start: Where its weights come from.
        train: How it is trained from there; judged as it is if absent.
        tags: What figures group by: ``role`` (``core`` or ``robust``), ``loss``, ``beta``, ...
        data: A data set of its own, where a run repeats over draws; else the run's.
        seed: Of its initial weights.
    """

    name: str
    start: Fresh | Pretrained | Earlier
    train: TrainConfig | None = None
    tags: dict[str, Any] = field(default_factory=dict)
    data: Source | None = None
    seed: int = 0


@dataclass(frozen=True)
class RunConfig:
    """A run: data, models, judgement.

    Attributes:
        recipe: Name of the recipe it came from.
        data: The data set.
        models: In training order; an :class:`Earlier` start names one further up.
        evaluation: What every model is judged by, on the test part.
        eps: The attacker's radii; ``evaluation`` also holds their doubles.
        gallery: How many abstained inputs to picture.
        grid: Points per side of a decision map, for two-dimensional data; 0 for none.
    """

    recipe: str
    data: Source
    models: tuple[ModelPlan, ...]
    evaluation: Evaluation
    eps: tuple[float, ...]
    gallery: int = 12
    grid: int = 0

    def __post_init__(self) -> None:
        names = [plan.name for plan in self.models]
        if len(set(names)) < len(names):
            raise ConfigError(f"recipe {self.recipe!r} names a model twice: {names}")
        for position, plan in enumerate(self.models):
            start = plan.start
            if isinstance(start, Earlier) and start.name not in names[:position]:
                raise ConfigError(
                    f"model {plan.name!r} starts from {start.name!r}, not yet trained"
                )
        lacking = [e for e in self.eps if 2 * e not in self.evaluation.radii]
        if lacking:
            raise ConfigError(f"robust selection at {lacking[0]:g} needs the doubled radius judged")


def config_classes() -> Mapping[str, type]:
    """Every dataclass that a run config can hold, by class name."""
    own = (Fresh, Pretrained, Earlier, ModelPlan, RunConfig, Evaluation, MaskingCheck, Threat)
    tables = (ATTACKS, LOSSES, CRITERIA, DATASETS, OBJECTIVES, AUGMENTATIONS)
    found = [*own, *TRAINING_CLASSES, *(kind for table in tables for kind in table.values())]
    return {kind.__name__: kind for kind in found} | dict(architecture_classes())
