"""The `_v1_5` ResNets with keras.applications' signature."""

import os
from typing import Any, Protocol

import keras

from pixpro_keras.backbones import resnet
from pixpro_keras.backbones.registry import min_image_size


class Constructor(Protocol):
    """How keras.applications builds a network."""

    def __call__(
        self,
        include_top: bool = False,
        weights: str | os.PathLike | None = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | None = "softmax",
    ) -> keras.Model:
        """See `_constructor`."""


def _constructor(name: str) -> Constructor:
    def construct(
        include_top=False,
        weights=None,
        input_shape=None,
        pooling=None,
        classes=1000,
        classifier_activation="softmax",
    ):
        if pooling not in (None, "avg", "max"):
            raise ValueError(f"`pooling` must be None, 'avg' or 'max'. Received: {pooling!r}")
        network = resnet.build_resnet(name, input_shape=_checked(name, input_shape))
        is_whole = weights is not None and str(weights).endswith(".weights.h5")
        if weights is not None and not is_whole:
            from pixpro_keras.weights.load import load_backbone

            _copy_weights(load_backbone(weights), network, weights)
        output = network.output
        if include_top or pooling == "avg":
            output = keras.layers.GlobalAveragePooling2D(name="avg_pool")(output)
        elif pooling == "max":
            output = keras.layers.GlobalMaxPooling2D(name="max_pool")(output)
        if include_top:
            output = keras.layers.Dense(
                classes, activation=classifier_activation, name="predictions"
            )(output)
        if output is not network.output:
            network = keras.Model(network.input, output, name=name)
        if is_whole:
            network.load_weights(weights)
        return network

    construct.__name__ = construct.__qualname__ = (
        name.title().replace("Resnet", "ResNet").replace("_V1_5", "V1_5")
    )
    construct.__doc__ = f"""`{name}`: stride in the 3x3 convolutions, RGB images by ImageNet's mean and std.

    Args:
        include_top: whether pooling and a classifier stand on C5.
        weights: None for new weights, or a file: `.keras`, a torch file or a detectron2 `.pkl` for
            the backbone (see `load_backbone`), or `.weights.h5` for the network as it is built here.
        input_shape: `(H, W, 3)`, each side None or at least 32; default: any size.
        pooling: None, `"avg"` or `"max"` on C5, where there is no top.
        classes: of the top.
        classifier_activation: of the top.

    Returns:
        Functional model: `(B, h, w, C)`, `(B, C)` with pooling, `(B, classes)` with the top.

    Raises:
        ValueError: if an argument is out of range or the weights are another network's.
    """
    return construct


def _checked(name: str, input_shape: tuple | None) -> tuple:
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


def _copy_weights(loaded: keras.Model, network: keras.Model, source: Any) -> None:
    def describe(model):
        return [(weight.path.split("/")[-2:], tuple(weight.shape)) for weight in model.weights]

    if describe(loaded) != describe(network):
        raise ValueError(
            f"`weights` must hold {network.name}. Received: {str(source)!r} with {loaded.name}"
        )
    network.set_weights(loaded.get_weights())


ResNet18V1_5 = _constructor("resnet18_v1_5")
ResNet34V1_5 = _constructor("resnet34_v1_5")
ResNet50V1_5 = _constructor("resnet50_v1_5")
ResNet101V1_5 = _constructor("resnet101_v1_5")
ResNet152V1_5 = _constructor("resnet152_v1_5")
