"""Backbones of KerasCV by the names of its presets, built from their sizes: no file is downloaded.

KerasCV is no longer maintained; only this module imports it. Its CSPDarkNet and MobileNetV3 are not
supported: some of their layers cannot be rebuilt from their config, as a target encoder and saved files need.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from pixpro_keras.backbones.resnet import BLOCKS

PREFIX = "keras_cv:"
# Names of models must not contain a colon.
_NAME_PREFIX = "keras_cv_"

# Name -> channels and depths of the stages.
_YOLO_V8 = {
    "xs": ((32, 64, 128, 256), (1, 2, 2, 1)),
    "s": ((64, 128, 256, 512), (1, 2, 2, 1)),
    "m": ((96, 192, 384, 576), (2, 4, 4, 2)),
    "l": ((128, 256, 512, 512), (3, 6, 6, 3)),
    "xl": ((160, 320, 640, 640), (3, 6, 6, 3)),
}
# EfficientNetV2: repeats, filters from the stem on, and coefficients of width and depth.
_EFFICIENTNET_V2 = {
    "s": ((2, 4, 4, 6, 9, 15), (24, 24, 48, 64, 128, 160, 256), (1.0, 1.0)),
    "m": ((3, 5, 5, 7, 14, 18, 5), (24, 24, 48, 80, 160, 176, 304, 512), (1.0, 1.0)),
    "l": ((4, 7, 7, 10, 19, 25, 7), (32, 32, 64, 96, 192, 224, 384, 640), (1.0, 1.0)),
    "b0": ((1, 2, 2, 3, 5, 8), (32, 16, 32, 48, 96, 112, 192), (1.0, 1.0)),
    "b1": ((1, 2, 2, 3, 5, 8), (32, 16, 32, 48, 96, 112, 192), (1.0, 1.1)),
    "b2": ((1, 2, 2, 3, 5, 8), (32, 16, 32, 48, 96, 112, 192), (1.1, 1.2)),
    "b3": ((1, 2, 2, 3, 5, 8), (32, 16, 32, 48, 96, 112, 192), (1.2, 1.4)),
}


@functools.cache
def _networks() -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """Preset name -> class in `keras_cv.models` and the arguments for its size."""
    networks: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for size, (channels, depths) in _YOLO_V8.items():
        arguments: dict[str, Any] = {
            "stackwise_channels": list(channels),
            "stackwise_depth": list(depths),
        }
        networks[f"yolo_v8_{size}_backbone"] = "YOLOV8Backbone", arguments
    for depth, blocks in BLOCKS.items():
        arguments = {
            "stackwise_filters": [64, 128, 256, 512],
            "stackwise_blocks": list(blocks),
            "stackwise_strides": [1, 2, 2, 2],
            "block_type": "basic_block" if depth < 50 else "block",
        }
        networks[f"resnet{depth}"] = "ResNetBackbone", arguments
        networks[f"resnet{depth}_v2"] = "ResNetV2Backbone", arguments
    for size, (repeats, filters, coefficients) in _EFFICIENTNET_V2.items():
        arguments = _efficientnet_v2(repeats, filters, coefficients)
        networks[f"efficientnetv2_{size}"] = "EfficientNetV2Backbone", arguments
    return networks


def _efficientnet_v2(
    repeats: Sequence[int], filters: Sequence[int], coefficients: tuple[float, float]
) -> dict[str, Any]:
    num_stages = len(repeats)
    return {
        "width_coefficient": coefficients[0],
        "depth_coefficient": coefficients[1],
        "stackwise_kernel_sizes": [3] * num_stages,
        "stackwise_num_repeats": list(repeats),
        "stackwise_input_filters": list(filters[:-1]),
        "stackwise_output_filters": list(filters[1:]),
        "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6, 6][:num_stages],
        "stackwise_squeeze_and_excite_ratios": [0, 0, 0, 0.25, 0.25, 0.25, 0.25][:num_stages],
        "stackwise_strides": [1, 2, 2, 2, 1, 2, 1][:num_stages],
        "stackwise_conv_types": ["fused"] * 3 + ["unfused"] * (num_stages - 3),
    }


def names() -> tuple[str, ...]:
    """Names of the networks, each with the prefix `keras_cv:`.

    Example:
        ```python
        from pixpro_keras.backbones import keras_cv_networks

        assert "keras_cv:yolo_v8_s_backbone" in keras_cv_networks.names()
        ```
    """
    return tuple(f"{PREFIX}{name}" for name in _networks())


def build_backbone(name: str) -> keras.Model:
    """KerasCV's own backbone with new weights, for images of RGB in 0..255.

    Args:
        name: one of `names()`.

    Returns:
        Instance of the class in `keras_cv.models`, which KerasCV's detectors and segmenters take; up to
        its last map, under the global dtype policy.

    Raises:
        ImportError: if KerasCV is not installed.

    Example:
        ```python
        from pixpro_keras.backbones import keras_cv_networks

        backbone = keras_cv_networks.build_backbone("keras_cv:yolo_v8_xs_backbone")
        assert backbone.output_shape == (None, None, None, 256)
        ```
    """
    kind, arguments = _networks()[name.removeprefix(PREFIX)]
    constructor = getattr(import_keras_cv().models, kind)
    return constructor(
        **arguments,
        include_rescaling=True,
        input_shape=(None, None, 3),
        name=name.replace(PREFIX, _NAME_PREFIX),
    )


def name_of(network: keras.Model) -> str | None:
    """Name of a network of `build_backbone`, or of a copy of it; None for others."""
    name = network.name.replace(_NAME_PREFIX, PREFIX, 1)
    return name if name in names() else None


def import_keras_cv() -> Any:
    """Imports KerasCV, which registers its layers for files that hold them.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        import keras_cv
    except ImportError as error:
        raise ImportError(
            "backbones of KerasCV need keras-cv: pip install 'keras-cv>=0.9.0,<0.10'"
        ) from error
    return keras_cv
