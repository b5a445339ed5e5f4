"""Backbones by name: keras.applications, and the paper's stride-in-3x3 ResNets."""

from pixpro_keras.backbones.registry import (
    available,
    build,
    constructor_name,
    is_keras_application,
    min_image_size,
    preprocess_input,
    stock,
)

__all__ = [
    "available",
    "build",
    "constructor_name",
    "is_keras_application",
    "min_image_size",
    "preprocess_input",
    "stock",
]
