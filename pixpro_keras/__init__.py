"""Pixel-level self-supervised pre-training in Keras 3 / TensorFlow."""

from pixpro_keras.version import __version__

__all__ = ["__version__"]
