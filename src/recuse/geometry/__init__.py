"""Geometry of data and models: how far classes are apart, how smooth a classifier is."""

from recuse.geometry.lipschitz import Lipschitz, Smoothness, smoothness
from recuse.geometry.separation import NearPair, Separation, separation

__all__ = ["Lipschitz", "NearPair", "Separation", "Smoothness", "separation", "smoothness"]
