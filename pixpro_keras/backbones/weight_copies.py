"""Copies of weights between networks of the same layers."""

import hashlib
import itertools
import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies a network's weights into the same network with other settings, such as a dilated one.

    Args:
        source: trained network, under any dtype policy and strategy.
        target: from `build` or `plain_network`; output stride, batch-norm settings and dtype policy
            stay its own.

    Raises:
        ValueError: naming the first weight that does not fit; nothing is copied then.

    Example:
        ```python
        from pixpro_keras import backbones

        backbone = backbones.build("resnet18_v1_5")
        dilated = backbones.build("resnet18_v1_5", output_stride=16)
        backbones.copy_weights(backbone, dilated)
        ```
    """
    check_same_weights(source, target)
    for value, variable in zip(source.weights, target.weights, strict=True):
        variable.assign(keras.ops.convert_to_numpy(value))
    _keep_scale(source, target)
    refresh_normalization(target)


def _keep_scale(source: keras.Model, target: keras.Model) -> None:
    """Moves the rescaling of EfficientNets with ImageNet weights into the variance of the normalization.

    keras.applications adds a `Rescaling` layer after the normalization only for these weights.
    """
    for (_, theirs), (layer, ours) in zip(_scales(source), _scales(target), strict=True):
        if theirs is not None and ours is None:
            layer.adapt_variance.assign(layer.adapt_variance / np.square(theirs))


def _scales(network: keras.Model) -> list[tuple[keras.layers.Normalization, Any]]:
    """Each adapted normalization, and the scale of the `Rescaling` after it or None."""
    return [
        (layer, following.scale if isinstance(following, keras.layers.Rescaling) else None)
        for layer, following in itertools.pairwise(_leaves(network))
        if isinstance(layer, keras.layers.Normalization) and layer.weights
    ]


def _leaves(network: keras.Model) -> Iterator[keras.layers.Layer]:
    """Layers in their order, those of nested models in place of the models, without inputs."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            yield layer


def refresh_normalization(network: keras.Model) -> None:
    """Makes Keras's `Normalization` layers compute with their weights, after these were set.

    They compute with copies, which they make when they are adapted or read from a file.

    Args:
        network: built; nested models included.

    Example:
        ```python
        import keras
        import numpy as np

        from pixpro_keras.backbones.weight_copies import refresh_normalization

        network = keras.Sequential([keras.Input((3,)), keras.layers.Normalization()])
        network.set_weights([np.ones(3), np.full(3, 4.0), np.array(0)])
        refresh_normalization(network)
        print(network(np.full((1, 3), 5.0)))  # (5 - 1) / sqrt(4)
        ```
    """
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def copy_normalization(source: keras.Model, target: keras.Model) -> None:
    """Copies the statistics of `Normalization` layers, which belong to the images that a network takes.

    Args:
        source: network whose layers are adapted.
        target: the same network with new weights.

    Example:
        ```python
        import keras
        import numpy as np

        from pixpro_keras.backbones.weight_copies import copy_normalization

        networks = [
            keras.Sequential([keras.Input((3,)), keras.layers.Normalization()]) for _ in range(2)
        ]
        networks[0].layers[0].adapt(np.random.rand(8, 3))
        copy_normalization(*networks)
        ```
    """
    layers = (
        [x for x in network._flatten_layers() if isinstance(x, keras.layers.Normalization)]
        for network in (source, target)
    )
    for one, other in zip(*layers, strict=True):
        other.set_weights(one.get_weights())
        other.finalize_state()


def weights_digest(network: keras.Model) -> str:
    """SHA-256 of a network's weights, in hexadecimal digits.

    Args:
        network: built, under any strategy.

    Example:
        ```python
        from pixpro_keras import backbones

        backbone = backbones.build("resnet18_v1_5")
        dilated = backbones.build("resnet18_v1_5", output_stride=16)
        backbones.copy_weights(backbone, dilated)
        assert backbones.weights_digest(dilated) == backbones.weights_digest(backbone)
        ```
    """
    digest = hashlib.sha256()
    for weight in network.weights:
        digest.update(keras.ops.convert_to_numpy(weight).tobytes())
    return digest.hexdigest()


def check_same_weights(source: keras.Model, target: keras.Model) -> None:
    """Checks that two networks have the same weights, by name and shape.

    Args:
        source: a network.
        target: another one.

    Raises:
        ValueError: naming the first weight that does not fit.

    Example:
        ```python
        from pixpro_keras import backbones

        network = backbones.build("resnet18_v1_5")
        backbones.check_same_weights(network, backbones.plain_network("resnet18_v1_5"))
        ```
    """
    pairs = itertools.zip_longest(map(_describe, source.weights), map(_describe, target.weights))
    for theirs, ours in pairs:
        if _without_inner_numbers(theirs) != _without_inner_numbers(ours):
            raise ValueError(
                f"the weights of {source.name!r} are not those of {target.name}: "
                f"{theirs or 'no weight'} in the place of {ours or 'no weight'}"
            )


def _without_inner_numbers(description: str | None) -> str | None:
    """Removes the numbers in the layer name of a description.

    Copying a block of KerasHub's MobileNet adds a number to the names of its layers.
    """
    return description and re.sub(r"(_\d+)+(?=[_/])", "", description)


def _describe(weight: keras.Variable) -> str:
    """Layer name, weight name and shape of a weight, equal in all copies of its network.

    Final numbers are removed, since Keras counts unnamed layers over the whole process (`conv2d_94` in
    the second InceptionV3). Outer names are left out, since a cloned model loses the names of nested models.
    """
    parts = [re.sub(r"_\d+$", "", part) for part in weight.path.split("/")[-2:]]
    return f"{'/'.join(parts)} {tuple(weight.shape)}"
