"""Pixel-level self-supervised pre-training in Keras 3 / TensorFlow."""

from pixpro_keras.backbones import load_backbone
from pixpro_keras.version import __version__

__all__ = ["__version__", "load_backbone"]
