"""Training: objectives (a loss with its attack) and the loop that runs them."""

from recuse.training.averaging import AVERAGES, Ema, NoAverage, Swa
from recuse.training.config import TRAINING_CLASSES, Checkpointing, TrainConfig, Validation
from recuse.training.loop import TrainResult, fit
from recuse.training.objectives import (
    OBJECTIVES,
    ROBUST_LOSSES,
    Adversarial,
    Cra,
    Dga,
    Era,
    Gairat,
    GairTrades,
    Gaussian,
    IbpTraining,
    LiteralEra,
    Macer,
    Mart,
    Score,
    ScoreJs,
    Standard,
    Trades,
)
from recuse.training.schedule import SCHEDULES, Constant, Cosine, OneDrop, Ramp, Step
from recuse.training.self_training import pseudo_labelled

__all__ = [
    "AVERAGES",
    "OBJECTIVES",
    "ROBUST_LOSSES",
    "SCHEDULES",
    "TRAINING_CLASSES",
    "Adversarial",
    "Checkpointing",
    "Constant",
    "Cosine",
    "Cra",
    "Dga",
    "Ema",
    "Era",
    "GairTrades",
    "Gairat",
    "Gaussian",
    "IbpTraining",
    "LiteralEra",
    "Macer",
    "Mart",
    "NoAverage",
    "OneDrop",
    "Ramp",
    "Score",
    "ScoreJs",
    "Standard",
    "Step",
    "Swa",
    "Trades",
    "TrainConfig",
    "TrainResult",
    "Validation",
    "fit",
    "pseudo_labelled",
]
