"""A system where scikit-learn expects a classifier."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin

from recuse.errors import ConfigError
from recuse.systems.answers import Prediction
from recuse.systems.folder import load
from recuse.systems.system import System

ABSTAINED = -1


class SystemClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A finished system behind ``fit``, ``predict`` and ``score``.

    Args:
        system: A system, or the path of its folder.
        seed: Of the selectors' searches; fixed, so that a score can be repeated.
    """

    def __init__(self, system: System | str | Path, seed: int = 0) -> None:
        self.system = system
        self.seed = seed

    def fit(self, X: object = None, y: object = None) -> "SystemClassifier":  # noqa: N803
        """Load the system; it was fitted and its thresholds were chosen when it was built.

        Args:
            X: Images; only counted.
            y: Their classes, checked to be ones that the system knows.

        Raises:
            ConfigError: A class that the system does not know.
        """
        own = self.system
        self.system_ = own if isinstance(own, System) else load(own)
        self.classes_ = np.arange(len(self.system_.labels))
        known = set(self.classes_.tolist())
        if y is not None and (odd := set(np.asarray(y).tolist()) - known):
            raise ConfigError(f"class {min(odd)} is none of the {len(known)} that the system knows")
        return self

    def predict(self, X: object) -> npt.NDArray[np.int64]:  # noqa: N803
        """The class of each image, -1 where the system abstains."""
        labels = [ABSTAINED if label is None else label for label in self.decide(X).label]
        return np.array(labels, dtype=np.int64)

    def decide(self, X: object) -> Prediction:  # noqa: N803
        """The whole answers: who gives them and what stands behind them."""
        if not hasattr(self, "system_"):
            self.fit()
        return self.system_.predict(X, seed=self.seed)

    def score(self, X: object, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """Share of right answers; an abstention is none."""
        right = self.predict(X) == np.asarray(y)
        return float(np.average(right, weights=sample_weight))


__all__ = ["ABSTAINED", "SystemClassifier"]
