"""The `_v1_5` ResNets by constructors as in keras.applications, weights from a file included.

They differ in two defaults, `include_top=False` and `weights=None`, and have no `name`.
"""

import os
from typing import Protocol

import keras
from absl import logging

from pixpro_keras.backbones import copy_weights, min_image_size, resnet
from pixpro_keras.utils.errors import first_line
from pixpro_keras.weights.load import IMAGENET, load_backbone


class Constructor(Protocol):
    """Signature of the constructors, with the order of keras.applications."""

    def __call__(
        self,
        include_top: bool = False,
        weights: str | os.PathLike | None = None,
        input_tensor: keras.KerasTensor | None = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | None = "softmax",
    ) -> keras.Model:
        """Builds the network."""


_DOCSTRING = """`{name}`: stride in the 3x3 convolutions, RGB images by ImageNet's mean and std.

    Args:
        include_top: whether pooling and a classifier follow C5.
        weights: None for new weights, or a file: `.keras`, a torch file or a detectron2 `.pkl` for
            the backbone without a top (see `load_backbone`), or `.weights.h5` of the whole network.
        input_tensor: images `(B, H, W, 3)` from layers that come before, such as a `Rescaling`; the
            network begins with their inputs. Its shape takes the place of `input_shape`.
        input_shape: `(H, W, 3)`, each side None or at least 32; default: any size.
        pooling: None, `"avg"` or `"max"` over C5, where there is no top.
        classes: outputs of the top.
        classifier_activation: activation of the top.

    Returns:
        Functional model: `(B, h, w, C)`, `(B, C)` with pooling, `(B, classes)` with the top.

    Raises:
        ValueError: if an argument is out of range, or the file holds no weights of this network.

    Example:
        ```python
        import pixpro_keras

        network = pixpro_keras.{constructor}(input_shape=(64, 64, 3), pooling="avg")
        print(network.output_shape)  # (None, C)
        ```
    """


def _constructor(name: str) -> Constructor:
    def construct(
        include_top=False,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=1000,
        classifier_activation="softmax",
    ):
        if pooling not in (None, "avg", "max"):
            raise ValueError(f"`pooling` must be None, 'avg' or 'max'. Received: {pooling!r}")
        if input_tensor is not None:
            input_shape = tuple(input_tensor.shape[1:])
        network = resnet.build_resnet(
            name, input_shape=_check_shape(name, input_shape), input_tensor=input_tensor
        )
        is_whole = weights is not None and str(weights).endswith(".weights.h5")
        if weights is not None and not is_whole:
            _copy_backbone(weights, network)
            if include_top:
                logging.warning("%s: only the backbone is read; the top has new weights", weights)
        output = network.output
        if include_top or pooling == "avg":
            output = keras.layers.GlobalAveragePooling2D(name="avg_pool")(output)
        elif pooling == "max":
            output = keras.layers.GlobalMaxPooling2D(name="max_pool")(output)
        if include_top:
            top = keras.layers.Dense(classes, activation=classifier_activation, name="predictions")
            output = top(output)
        if output is not network.output:
            network = keras.Model(network.input, output, name=name)
        if is_whole:
            _load_whole(weights, network)
        return network

    constructor = name.title().replace("Resnet", "ResNet").replace("_V1_5", "V1_5")
    construct.__name__ = construct.__qualname__ = constructor
    construct.__doc__ = _DOCSTRING.format(name=name, constructor=constructor)
    return construct


def _check_shape(name: str, input_shape: tuple | None) -> tuple:
    if input_shape is None:
        return (None, None, 3)
    smallest = min_image_size(name)
    is_valid = len(input_shape) == 3 and input_shape[2] == 3
    if not is_valid or any(side is not None and side < smallest for side in input_shape[:2]):
        raise ValueError(
            f"`input_shape` must be (H, W, 3) with sides of at least {smallest}. "
            f"Received: input_shape={input_shape}"
        )
    return tuple(input_shape)


def _load_whole(weights: str | os.PathLike, network: keras.Model) -> None:
    try:
        network.load_weights(weights)
    except Exception as error:  # Keras raises many kinds of errors.
        raise ValueError(
            f"{weights}: no weights of {network.name} ({first_line(error)})"
        ) from error


def _copy_backbone(weights: str | os.PathLike, network: keras.Model) -> None:
    loaded = load_backbone(weights, name=network.name if weights == IMAGENET else None)
    try:
        copy_weights(loaded, network)
    except ValueError as error:
        raise ValueError(
            f"`weights` must hold {network.name}. Received: {str(weights)!r} with {loaded.name}"
        ) from error


ResNet18V1_5 = _constructor("resnet18_v1_5")
ResNet34V1_5 = _constructor("resnet34_v1_5")
ResNet50V1_5 = _constructor("resnet50_v1_5")
ResNet101V1_5 = _constructor("resnet101_v1_5")
ResNet152V1_5 = _constructor("resnet152_v1_5")
