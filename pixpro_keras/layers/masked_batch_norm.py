"""Batch norm over the rows with a mask of 1."""

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.ops import cross_replica_mean
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = ["MaskedBatchNorm"]


@keras.saving.register_keras_serializable("pixpro_keras")
class MaskedBatchNorm(keras.layers.Layer):
    """Batch norm of `(B, M, C)` whose statistics are those of the rows with a mask of 1.

    Selecting the rows would have a shape that changes from step to step. Keras's own batch norm takes
    a mask, but then forgets `synchronized`. In training, statistics are over all replicas.

    Args:
        momentum: fraction of the moving statistics that is kept in each step.
        epsilon: added to the variance.

    Example:
        ```python
        import keras
        from pixpro_keras.layers import MaskedBatchNorm

        norm = MaskedBatchNorm(momentum=0.9)
        x, mask = keras.random.normal((2, 5, 8)), keras.ops.ones((2, 5))
        print(norm(x, mask, training=True).shape)  # (2, 5, 8)
        ```
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.momentum = checks.in_range("momentum", momentum, 0, 1)
        self.epsilon = checks.at_least("epsilon", epsilon, 0)

    def build(self, input_shape: tuple) -> None:
        """Creates scale, offset and moving statistics."""

        def statistic(name: str, initializer: str) -> keras.Variable:
            return self.add_weight(
                name=name,
                shape=input_shape[-1:],
                dtype="float32",
                initializer=initializer,
                trainable=False,
                aggregation="mean",
            )

        shape = input_shape[-1:]
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")
        self.moving_mean = statistic("moving_mean", "zeros")
        self.moving_variance = statistic("moving_variance", "ones")
        self.built = True

    def call(self, inputs: Tensor, mask: Tensor, training: bool = False) -> Tensor:
        """Normalizes all rows.

        Args:
            inputs: `(B, M, C)`.
            mask: `(B, M)` of 0 and 1.
            training: whether to normalize with the statistics of the batch. Without a row that counts,
                these are 0, and the moving statistics stay as they are.

        Returns:
            `(B, M, C)` in the layer's compute dtype.
        """
        x = ops.cast(inputs, "float32")
        mean, variance = self.moving_mean, self.moving_variance
        if training:
            mean, variance, count = self._moments(x, ops.cast(mask, "float32")[..., None])
            keep = ops.where(count > 0, self.momentum, 1.0)
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(keep * moving + (1 - keep) * ops.stop_gradient(batch))
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return ops.cast((x - mean) * scale + self.beta, self.compute_dtype)

    def _moments(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance of the rows that count, and their mean number over the replicas."""
        total = ops.sum(x * weight, axis=(0, 1))
        squares = ops.sum(ops.square(x) * weight, axis=(0, 1))
        count = ops.sum(weight)
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            together = ops.concatenate([total, squares, ops.reshape(count, (1,))], axis=0)
            together = cross_replica_mean(together)
            total, squares = ops.split(together[:-1], 2)
            count = together[-1]
        divisor = ops.where(count > 0, count, 1.0)  # The mean number may be below 1.
        mean = total / divisor
        return mean, ops.maximum(squares / divisor - ops.square(mean), 0.0), count

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }
