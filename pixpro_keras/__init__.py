"""Pixel-level self-supervised pre-training in Keras 3 / TensorFlow."""

from typing import Any

# Before TensorFlow is imported.
from pixpro_keras.utils import tensorflow_settings  # noqa: F401  # isort: skip
from pixpro_keras.version import __version__

__all__ = ["__version__", "load_backbone"]


def __getattr__(name: str) -> Any:
    # Not at import: the package's parts that need no TensorFlow, workers that draw scenes among
    # them, would wait for it.
    if name == "load_backbone":
        from pixpro_keras.weights.load import load_backbone

        return load_backbone
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
