"""Batch norm as one operation of TensorFlow, where Keras composes it of a dozen."""

import keras
import tensorflow as tf

from pixpro_keras.batch import Tensor

_FUSED_DTYPES = ("float32", "float16", "bfloat16")


@keras.saving.register_keras_serializable("pixpro_keras")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch norm with the same weights, statistics and results, trained faster.

    Keras keeps several float32 tensors of the input's size for the backward pass, and in mixed
    precision makes each of them from a half as large one; the fused operation keeps its input. Where
    it does not serve (inference, statistics over several replicas, float64, other axes than the
    last), this is Keras's own. It has Keras's name too, under which weights files keep it: those of
    either load into the other. Whole models for others hold Keras's: see `backbones.stock`.
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask=None) -> Tensor:
        """The input's shape, in the layer's compute dtype."""
        if not (training and self.trainable and mask is None and self._can_fuse(inputs)):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        ones, zeros = tf.ones(channels), tf.zeros(channels)
        rows = inputs
        if inputs.shape.rank != 4:
            rows = tf.reshape(inputs, (-1, 1, 1, channels))
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=rows,
            scale=tf.cast(self.gamma, tf.float32) if self.scale else ones,
            offset=tf.cast(self.beta, tf.float32) if self.center else zeros,
            # In training only the batch's own statistics count.
            mean=tf.constant([]),
            variance=tf.constant([]),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The operation's variance is the unbiased one, Keras's moving variance is not.
        count = tf.cast(tf.size(rows) // channels, tf.float32)
        variance *= tf.maximum(count - 1, 1) / count
        keep = self.momentum
        self.moving_mean.assign(self.moving_mean * keep + mean * (1 - keep))
        self.moving_variance.assign(self.moving_variance * keep + variance * (1 - keep))
        if inputs.shape.rank != 4:
            outputs = tf.reshape(outputs, tf.shape(inputs))
        return tf.cast(tf.ensure_shape(outputs, inputs.shape), self.compute_dtype)

    def _can_fuse(self, inputs: Tensor) -> bool:
        is_one = tf.distribute.get_strategy().num_replicas_in_sync == 1
        return (
            (is_one or not self.synchronized)
            and not getattr(self, "renorm", False)  # older versions of Keras lack it
            and self.axis in (-1, len(inputs.shape) - 1)
            and inputs.dtype.name in _FUSED_DTYPES
        )
