"""Training losses as pure functions: logits in, one number per sample out."""

from recuse.losses.abstention import dga_penalty, dga_penalty_separate, era, era_penalty
from recuse.losses.adversarial import (
    boosted_cross_entropy,
    gair_trades,
    gairat,
    gairat_weights,
    gairat_weights_discrete,
    gairat_weights_sigmoid,
    kl_regularizer,
    mart,
    trades,
)
from recuse.losses.self_consistent import (
    js_divergence,
    score,
    score_js,
    smooth_labels,
    squared_distance,
)
from recuse.losses.standard import cross_entropy, miss_probability, probability_of, runner_up

__all__ = [
    "boosted_cross_entropy",
    "cross_entropy",
    "dga_penalty",
    "dga_penalty_separate",
    "era",
    "era_penalty",
    "gair_trades",
    "gairat",
    "gairat_weights",
    "gairat_weights_discrete",
    "gairat_weights_sigmoid",
    "js_divergence",
    "kl_regularizer",
    "mart",
    "miss_probability",
    "probability_of",
    "runner_up",
    "score",
    "score_js",
    "smooth_labels",
    "squared_distance",
    "trades",
]
