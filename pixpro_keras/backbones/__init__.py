"""Backbones by name: keras.applications, and the paper's stride-in-3x3 ResNets."""

from pixpro_keras.backbones.constructors import (
    ResNet18V1_5,
    ResNet34V1_5,
    ResNet50V1_5,
    ResNet101V1_5,
    ResNet152V1_5,
)
from pixpro_keras.backbones.levels import FEATURES, feature_network
from pixpro_keras.backbones.registry import (
    available,
    build,
    constructor_name,
    copy_weights,
    input_convention,
    is_keras_application,
    min_image_size,
    preprocess_input,
    stock,
)

__all__ = [
    "FEATURES",
    "ResNet18V1_5",
    "ResNet34V1_5",
    "ResNet50V1_5",
    "ResNet101V1_5",
    "ResNet152V1_5",
    "available",
    "build",
    "constructor_name",
    "copy_weights",
    "feature_network",
    "input_convention",
    "is_keras_application",
    "min_image_size",
    "preprocess_input",
    "stock",
]
