"""Systems: cascades that are built, saved, loaded back and asked about images as they come."""

from recuse.systems.answers import Answer, Prediction
from recuse.systems.explain import Explanation
from recuse.systems.folder import load
from recuse.systems.inputs import InputForm
from recuse.systems.system import System

__all__ = ["Answer", "Explanation", "InputForm", "Prediction", "System", "load"]
