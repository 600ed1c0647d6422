"""Every literal table under one roof: what can be typed, stored and listed."""

from recuse.data import DATASETS, Source
from recuse.data.augment import AUGMENTATIONS, Augment
from recuse.models.architectures import ARCHITECTURES, Architecture
from recuse.protocols import Objective
from recuse.selectors.families import SELECTION
from recuse.training import AVERAGES, OBJECTIVES, ROBUST_LOSSES, SCHEDULES
from recuse.training.averaging import WeightAverage
from recuse.training.reweighted import GEOMETRY_WEIGHTS, GeometryWeights
from recuse.training.robust import RobustLoss
from recuse.training.schedule import Schedule
from recuse.vocabulary import Family, Vocabulary

VOCABULARY = Vocabulary(
    (
        Family("objective", OBJECTIVES, Objective),
        Family("robust-loss", ROBUST_LOSSES, RobustLoss),
        Family("geometry-weights", GEOMETRY_WEIGHTS, GeometryWeights),
        *SELECTION.families,
        Family("schedule", SCHEDULES, Schedule),
        Family("augmentation", AUGMENTATIONS, Augment),
        Family("average", AVERAGES, WeightAverage),
        Family("architecture", ARCHITECTURES, Architecture),
        Family("data", DATASETS, Source),
    )
)

__all__ = ["VOCABULARY"]
