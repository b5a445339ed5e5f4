"""Backbones by name: keras.applications, KerasCV's presets, and the paper's stride-in-3x3 ResNets."""

from pixpro_keras.backbones.levels import FEATURES, feature_network, level_network, pyramid_network
from pixpro_keras.backbones.registry import (
    available,
    build,
    constructor_name,
    copy_weights,
    input_convention,
    is_keras_application,
    min_image_size,
    name_of,
    plain_network,
    preprocess_input,
)

__all__ = [
    "FEATURES",
    "available",
    "build",
    "constructor_name",
    "copy_weights",
    "feature_network",
    "input_convention",
    "is_keras_application",
    "level_network",
    "min_image_size",
    "name_of",
    "plain_network",
    "preprocess_input",
    "pyramid_network",
]
