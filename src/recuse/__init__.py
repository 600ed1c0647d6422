"""recuse: image classifiers that answer where they are robust and step aside where they are not."""

__version__ = "0.1.0"
