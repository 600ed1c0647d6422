"""From a model and a data set to per-sample records, resumable at every batch."""

from recuse.evaluation.evaluate import Evaluation, evaluate, judged_radii

__all__ = ["Evaluation", "evaluate", "judged_radii"]
