"""Precise batch norm: recomputed moving statistics."""

import contextlib
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.evaluation.replicas import split_over_replicas
from pixpro_keras.layers.masked_batch_norm import MaskedBatchNorm
from pixpro_keras.types import Tensor


def apply_precise_bn(
    model: keras.Model,
    batches: Iterable[Tensor],
    strategy: tf.distribute.Strategy | None = None,
) -> None:
    """Replaces the moving statistics of batch norm by the statistics of given images.

    Moving averages lag behind the weights, and those of an untrained network (mean 0, variance 1)
    do not fit its activations. Each batch goes through the network in training mode; the mean is
    averaged over all images, and the variance is that of all images together:

        mean = sum_b n_b m_b / N        variance = sum_b n_b (v_b + m_b^2) / N - mean^2

    Only `moving_mean` and `moving_variance` of trainable batch-norm layers change. Layers with
    `trainable = False` use their moving statistics in training mode too, and keep them.

    Args:
        model: built model, which takes the batches.
        batches: images `(B, H, W, 3)`, already preprocessed, or dicts of tensors; at least one batch if
            the network has batch norm. More and larger batches give better estimates; a thousand
            images are enough.
        strategy: strategy of the model. Its replicas share each batch and normalize it by the
            statistics of the whole batch, as in training. They must be on one machine, and their
            number must divide the batch size. Without a strategy, one device processes each batch.

    Raises:
        ValueError: if `batches` is empty.

    Reference:
        Wu and Johnson, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, section 3.

    Example:
        ```python
        import keras
        import numpy as np

        from pixpro_keras.evaluation import apply_precise_bn

        layers = [keras.Input((8, 8, 3)), keras.layers.BatchNormalization()]
        model = keras.Sequential(layers)
        apply_precise_bn(model, [np.random.rand(4, 8, 8, 3) for _ in range(2)])
        print(model.layers[0].moving_mean)  # near 0.5
        ```
    """
    layers = _norms(model)
    if not layers:
        return
    # One list per layer: the moving mean and variance.
    variables = [(layer.moving_mean, layer.moving_variance) for layer in layers]
    before = _read(variables)
    momenta = [layer.momentum for layer in layers]

    # One graph per shape, since anchors of a detector depend on the static shape.
    @tf.function(autograph=False)
    def run(images):
        if strategy is None:
            model(images, training=True)
        else:
            strategy.run(model, args=(images,), kwargs={"training": True})

    def observe(images):
        run(images if strategy is None else split_over_replicas(strategy, images))

    try:
        for layer, pair in zip(layers, variables, strict=True):
            layer.momentum = 0.0  # The moving statistics are then those of the last batch.
            for variable in pair:
                variable.assign(np.zeros(variable.shape))  # 0 * NaN would stay NaN.
        measured = _average(observe, variables, batches)
    except BaseException:
        _assign(variables, before)
        raise
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    _assign(variables, measured)


@contextlib.contextmanager
def temporary_precise_bn(
    model: keras.Model,
    batches: Iterable[Tensor],
    strategy: tf.distribute.Strategy | None = None,
) -> Iterator[None]:
    """Context with the statistics of `apply_precise_bn`, for a test in the middle of a training.

    On exit the moving statistics are restored.

    Args:
        model: built model, which takes the batches.
        batches: as for `apply_precise_bn`.
        strategy: as for `apply_precise_bn`.

    Raises:
        ValueError: if `batches` is empty.

    Example:
        ```python
        import keras
        import numpy as np

        from pixpro_keras.evaluation import temporary_precise_bn

        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.BatchNormalization()])
        images = np.random.rand(4, 8, 8, 3)
        with temporary_precise_bn(model, [images]):
            print(np.mean(model(images)))  # near 0
        ```
    """
    variables = [(layer.moving_mean, layer.moving_variance) for layer in _norms(model)]
    before = _read(variables)
    apply_precise_bn(model, batches, strategy)
    try:
        yield
    finally:
        _assign(variables, before)


def _norms(model: keras.Model) -> list[keras.layers.Layer]:
    return [
        layer
        for layer in model._flatten_layers()  # `layers` does not look into nested ones.
        if isinstance(layer, keras.layers.BatchNormalization | MaskedBatchNorm) and layer.trainable
    ]


def _read(variables) -> list[tuple[np.ndarray, ...]]:
    return [tuple(map(keras.ops.convert_to_numpy, pair)) for pair in variables]


def _average(observe, variables, batches) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean and variance over all images, per layer, in float64."""
    num_images = 0
    means = [np.zeros(mean.shape) for mean, _ in variables]
    squares = [np.zeros(mean.shape) for mean, _ in variables]
    for images in batches:
        observe(images)
        size = keras.tree.flatten(images)[0].shape[0]
        num_images += size
        for index, pair in enumerate(variables):
            mean, variance = (
                keras.ops.convert_to_numpy(variable).astype("float64") for variable in pair
            )
            means[index] += size * mean
            squares[index] += size * (variance + mean**2)
    if not num_images:
        raise ValueError("`batches` must hold at least one batch of images. Received none.")
    result = []
    for mean, square in zip(means, squares, strict=True):
        mean = mean / num_images
        # Rounding can push the variance of a constant channel below 0.
        result.append((mean, np.maximum(square / num_images - mean**2, 0.0)))
    return result


def _assign(variables, values) -> None:
    for pair, arrays in zip(variables, values, strict=True):
        for variable, array in zip(pair, arrays, strict=True):
            variable.assign(array)
