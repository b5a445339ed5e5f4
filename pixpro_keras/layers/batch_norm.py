"""Batch norm as one operation with one all-reduce in each direction, where Keras uses several."""

from collections.abc import Callable

import keras
import tensorflow as tf

from pixpro_keras.layers.small_maps import faster_side_by_side
from pixpro_keras.ops import cross_replica_mean
from pixpro_keras.types import Tensor

__all__ = ["BatchNormalization"]

_DTYPES = ("float32", "float16", "bfloat16")
_CONVOLUTION_ATTRIBUTES = ("strides", "padding", "explicit_paddings", "data_format", "dilations")


@keras.saving.register_keras_serializable("pixpro_keras")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch norm with the same weights, statistics and results, trained faster.

    For the backward pass Keras stores several float32 tensors of the input's size, also in mixed
    precision; this layer stores its input only. Over several replicas Keras reduces three tensors
    in the forward and two in the backward pass, this layer one in each, for which all replicas must
    have equally many rows. Inference in 16 bits is one operation instead of several, or, after a
    convolution in a traced function, none: scale and offset become part of the convolution. In all
    other cases (inference in float32, float64, other axes than the last) this is Keras's
    implementation. It also has Keras's name, so that weights files of either load into the other.
    Exported models contain Keras's layer: see `backbones.plain_network`.

    Statistics are always over all replicas, whatever `synchronized` says.

    Args:
        **kwargs: arguments of `keras.layers.BatchNormalization`; `synchronized` has no effect.

    Example:
        ```python
        import keras
        from pixpro_keras.layers import BatchNormalization

        norm = BatchNormalization(momentum=0.9, epsilon=1e-5)
        print(norm(keras.random.normal((2, 4, 4, 8)), training=True).shape)  # (2, 4, 4, 8)
        ```
    """

    @property
    def synchronized(self) -> bool:
        """True if statistics are taken over several replicas."""
        return tf.distribute.get_strategy().num_replicas_in_sync > 1

    @synchronized.setter
    def synchronized(self, value: bool) -> None:
        """Keras's constructor sets it, from configs of plain layers among others."""

    def call(self, inputs: Tensor, training: bool | None = None, mask=None) -> Tensor:
        """The input's shape, in the layer's compute dtype."""
        is_trained = training and self.trainable
        # In float32, features equal those of exported networks with Keras's layer exactly.
        is_exact = not is_trained and inputs.dtype == tf.float32
        if mask is not None or is_exact or not self._is_usual(inputs):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        scale = tf.cast(self.gamma, tf.float32) if self.scale else tf.ones(channels)
        offset = tf.cast(self.beta, tf.float32) if self.center else tf.zeros(channels)
        if not is_trained:
            folded = None if training else self._folded_into_convolution(inputs, scale, offset)
            return self._with_moving_statistics(inputs, scale, offset) if folded is None else folded
        normalize = _over_replicas if self.synchronized else _on_one_device
        outputs, mean, variance = normalize(inputs, scale, offset, self.epsilon)
        keep = self.momentum
        self.moving_mean.assign(self.moving_mean * keep + mean * (1 - keep))
        self.moving_variance.assign(self.moving_variance * keep + variance * (1 - keep))
        # TensorFlow fuses this with a ReLU, if no operation such as `ensure_shape` is between them.
        outputs.set_shape(inputs.shape)
        return tf.cast(outputs, self.compute_dtype)

    def _with_moving_statistics(self, inputs: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        outputs, *_ = tf.raw_ops.FusedBatchNormV3(
            x=_as_maps(inputs),
            scale=scale,
            offset=offset,
            mean=tf.cast(self.moving_mean, tf.float32),
            variance=tf.cast(self.moving_variance, tf.float32),
            epsilon=self.epsilon,
            is_training=False,
        )
        if inputs.shape.rank != 4:
            outputs = tf.reshape(outputs, tf.shape(inputs))
        outputs.set_shape(inputs.shape)
        return tf.cast(outputs, self.compute_dtype)

    def _folded_into_convolution(
        self, inputs: Tensor, scale: Tensor, offset: Tensor
    ) -> Tensor | None:
        """The convolution that made the input, with scaled kernels and a bias; None without one.

        Nothing else uses the convolution without them, so TensorFlow removes it from the graph.
        """
        if tf.is_symbolic_tensor(inputs) and inputs.op.type == "IdentityN":  # `tf.custom_gradient`
            inputs = inputs.op.inputs[inputs.value_index]
        if not tf.is_symbolic_tensor(inputs) or inputs.op.type != "Conv2D":
            return None
        given = {name: inputs.op.get_attr(name) for name in _CONVOLUTION_ATTRIBUTES}
        if given["data_format"] != b"NHWC":
            return None
        maps, kernel = inputs.op.inputs
        if kernel.op.type == "Cast":
            kernel = kernel.op.inputs[0]  # before rounding to 16 bits
        factor = scale * tf.math.rsqrt(tf.cast(self.moving_variance, tf.float32) + self.epsilon)
        bias = offset - tf.cast(self.moving_mean, tf.float32) * factor
        kernel = tf.cast(tf.cast(kernel, tf.float32) * factor, inputs.dtype)
        outputs = None
        _, stride, other_stride, _ = given["strides"]
        if given["dilations"] == [1, 1, 1, 1] and stride == other_stride:
            row = faster_side_by_side(maps, kernel, stride, given["padding"].decode())
            if row is not None:
                outputs = row.outputs(maps, kernel)
        if outputs is None:
            outputs = tf.raw_ops.Conv2D(input=maps, filter=kernel, **given)
        outputs = tf.nn.bias_add(outputs, tf.cast(bias, inputs.dtype))
        outputs.set_shape(inputs.shape)
        return tf.cast(outputs, self.compute_dtype)

    def _is_usual(self, inputs: Tensor) -> bool:
        return (
            (tf.distribute.get_replica_context() is not None or not self.synchronized)
            and not getattr(self, "renorm", False)  # Older versions of Keras do not have it.
            and self.axis in (-1, len(inputs.shape) - 1)
            and inputs.dtype.name in _DTYPES
        )


def _on_one_device(
    inputs: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalizes on one device. Returns outputs, and mean and biased variance per channel."""
    channels = inputs.shape[-1]
    rows = _as_maps(inputs)
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=rows,
        scale=scale,
        offset=offset,
        # Training uses the statistics of the batch.
        mean=tf.constant([]),
        variance=tf.constant([]),
        epsilon=epsilon,
        is_training=True,
    )
    # The operation's variance is the unbiased one, Keras's moving variance is not.
    size = rows.shape.num_elements()
    if size is None:
        count = tf.cast(tf.size(rows) // channels, tf.float32)
        variance *= tf.maximum(count - 1, 1) / count
    else:
        count = size // channels
        variance *= max(count - 1, 1) / count
    if inputs.shape.rank != 4:
        outputs = tf.reshape(outputs, tf.shape(inputs))
    return outputs, mean, variance


def _as_maps(inputs: Tensor) -> Tensor:
    """Reshapes `(B, ..., C)` to `(B, h, w, C)`."""
    if inputs.shape.rank == 4:
        return inputs
    return tf.reshape(inputs, (-1, 1, 1, inputs.shape[-1]))


def _over_replicas(
    inputs: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalizes over all replicas. Returns outputs, and mean and biased variance per channel."""
    axes = list(range(inputs.shape.rank - 1))

    @tf.custom_gradient
    def normalize(
        inputs: Tensor, scale: Tensor, offset: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Callable]:
        rows = tf.cast(inputs, tf.float32)
        mean, variance = tf.nn.moments(rows, axes)
        mean, square = tf.unstack(cross_replica_mean(tf.stack([mean, variance + mean**2])))
        variance = tf.maximum(square - mean**2, 0.0)
        factor = tf.math.rsqrt(variance + epsilon)
        outputs = tf.cast((rows - mean) * (factor * scale) + offset, inputs.dtype)

        def gradient(by_outputs: Tensor, *_) -> tuple[Tensor, Tensor, Tensor]:
            # No gradient flows through mean and variance as outputs.
            by_outputs = tf.cast(by_outputs, tf.float32)
            normal = (tf.cast(inputs, tf.float32) - mean) * factor
            by_offset = tf.reduce_sum(by_outputs, axes)
            by_scale = tf.reduce_sum(by_outputs * normal, axes)
            count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
            means = cross_replica_mean(tf.stack([by_offset, by_scale]) / count)
            by_inputs = (factor * scale) * (by_outputs - means[0] - normal * means[1])
            return tf.cast(by_inputs, inputs.dtype), by_scale, by_offset

        return (outputs, mean, variance), gradient

    return normalize(inputs, scale, offset)
