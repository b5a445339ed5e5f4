"""Backbones by name: keras.applications, KerasCV's presets, the paper's ResNets, Keras files."""

from pixpro_keras.backbones.inputs import (
    fixed_image_size,
    input_convention,
    min_image_size,
    preprocess_input,
)
from pixpro_keras.backbones.levels import (
    FEATURES,
    feature_network,
    level_network,
    pyramid_network,
    require_feature_map,
)
from pixpro_keras.backbones.names import (
    available,
    constructor_name,
    is_keras_application,
    name_of,
    public_name,
)
from pixpro_keras.backbones.registry import build, plain_network
from pixpro_keras.backbones.weight_copies import check_same_weights, copy_weights, weights_digest

__all__ = [
    "FEATURES",
    "available",
    "build",
    "check_same_weights",
    "constructor_name",
    "copy_weights",
    "feature_network",
    "fixed_image_size",
    "input_convention",
    "is_keras_application",
    "level_network",
    "min_image_size",
    "name_of",
    "plain_network",
    "preprocess_input",
    "public_name",
    "pyramid_network",
    "require_feature_map",
    "weights_digest",
]
