"""Input of the networks: preprocessing, and smallest and fixed sizes of images."""

import functools
import re
from collections.abc import Callable

import keras
import tensorflow as tf

from pixpro_keras.backbones import keras_cv_networks, network_files, resnet
from pixpro_keras.backbones.names import (
    application_in,
    applications,
    check_name,
    module_name,
    name_of,
)
from pixpro_keras.types import Tensor

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def preprocess_input(name: str) -> Callable:
    """Returns the input preprocessing of a network.

    Args:
        name: one of `available()`, or the path of a Keras file.

    Returns:
        Function of `(..., H, W, 3)` RGB images in 0..255 that gives float32 of the same shape. For
        the paper's ResNets: scaled to 0..1, then by ImageNet's mean and standard deviation.
        Networks of KerasCV take images unchanged. For a network of a Keras file: by its name, if
        that is in `available()`; unchanged, if it begins by scaling them; else as for
        the paper's ResNets, which is the convention of KerasHub's presets.

    Raises:
        ValueError: if the name is unknown; from the function, if images have not three channels.

    Example:
        ```python
        import numpy as np

        from pixpro_keras import backbones

        preprocess = backbones.preprocess_input("resnet18_v1_5")
        images = preprocess(np.full((1, 32, 32, 3), 128, "uint8"))
        ```
    """
    check_name(name)
    convert = _conversion(_convention_of(name))

    def preprocess(images):
        images = tf.cast(images, tf.float32)
        if not images.shape[-1:].is_compatible_with([3]):
            raise ValueError(
                "images must be (..., H, W, 3), RGB; `tf.image.grayscale_to_rgb` makes three channels of "
                f"one. Received: the shape {images.shape}."
            )
        return convert(images)

    return preprocess


def _conversion(name: str) -> Callable[[Tensor], Tensor]:
    """Function of float32 images in 0..255 to the convention of a network in `available()`."""
    if name in resnet.ARCHITECTURES:
        return _standardize
    if name in keras_cv_networks.names():
        return lambda images: images  # the network scales them itself
    module = getattr(keras.applications, module_name(name))
    return lambda images: tf.cast(
        module.preprocess_input(images, data_format="channels_last"), tf.float32
    )


def _standardize(images: Tensor) -> Tensor:
    """Standardizes `(..., H, W, 3)` float32 images in 0..255 by ImageNet's mean and standard deviation."""
    images = images / 255.0
    shape = tf.shape(images)
    # Whole rows at once: broadcasting over three channels is five times as slow in TensorFlow.
    rows = tf.reshape(images, tf.concat([shape[:-2], [-1]], axis=0))
    mean, deviation = (
        tf.tile(tf.constant(x), shape[-2:-1]) for x in (_IMAGENET_MEAN, _IMAGENET_STD)
    )
    return tf.ensure_shape(tf.reshape((rows - mean) / deviation, shape), images.shape)


def input_convention(name: str) -> str:
    """Description of `preprocess_input` for users of plain Keras.

    Raises:
        ValueError: if the name is unknown.

    Example:
        ```python
        from pixpro_keras import backbones

        print(backbones.input_convention("mobilenetv2"))
        ```
    """
    check_name(name)
    side = fixed_image_size(name)
    size = f"any height and width from {min_image_size(name)} px"
    if side is not None:
        size = f"{side} x {side} px"
    name = _convention_of(name)
    if name in resnet.ARCHITECTURES:
        return (
            f"RGB in 0..1, then (x - mean) / std with mean {_IMAGENET_MEAN} and std {_IMAGENET_STD}; "
            f"{size}"
        )
    if name in keras_cv_networks.names():
        return f"RGB in 0..255; {size}"
    return (
        f"RGB in 0..255, through `keras.applications.{module_name(name)}.preprocess_input`; {size}"
    )


def _convention_of(name: str) -> str:
    """Name in `available()` of a network with the same input convention."""
    if not network_files.is_file(name):
        return name
    network = network_files.backbone_in(name)
    known = name_of(network) or application_in(network)
    if known is not None:
        return known
    # KerasCV networks take 0..255, the paper's ResNets standardized images.
    scaled = network_files.scales_images(network)
    return keras_cv_networks.names()[0] if scaled else next(iter(resnet.ARCHITECTURES))


@functools.cache
def min_image_size(name: str) -> int:
    """Smallest side in pixels that the network takes: keras.applications' own limit, at least 32.

    Raises:
        ValueError: if the name is unknown.

    Example:
        ```python
        from pixpro_keras import backbones

        assert backbones.min_image_size("resnet50") == 32
        ```
    """
    check_name(name)
    if name not in applications():
        return 32
    try:
        applications()[name](include_top=False, weights=None, input_shape=(1, 1, 3))
    except ValueError as error:
        limit = re.search(r"at least (\d+)", str(error))
        if limit:
            return int(limit.group(1))
    return 32


def fixed_image_size(name: str) -> int | None:
    """Fixed image side in pixels of a network; None if any side from `min_image_size` on is allowed.

    Raises:
        ValueError: if the name is unknown, or the network of a Keras file takes images that are not square.

    Example:
        ```python
        from pixpro_keras import backbones

        assert backbones.fixed_image_size("resnet18_v1_5") is None
        ```
    """
    check_name(name)
    is_file = network_files.is_file(name)
    return network_files.fixed_size(network_files.backbone_in(name)) if is_file else None
