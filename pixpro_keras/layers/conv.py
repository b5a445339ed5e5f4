"""A convolution that is faster where a matrix product does the same."""

import keras
import tensorflow as tf

from pixpro_keras.batch import Tensor


@keras.saving.register_keras_serializable("pixpro_keras")
class Conv2D(keras.layers.Conv2D):
    """Keras's convolution with the same weights and results, trained faster where its kernel is 1x1.

    Such a convolution is a product of pixels with a matrix. In training on processors it is computed as
    one: oneDNN's gradient of a 1x1 kernel takes two to five times as long as the product under
    TensorFlow's threads, in bfloat16 most of all (`benchmarks/README.md`). Elsewhere (inference, other
    kernels, strides, groups, maps of unknown size, GPUs) this is Keras's own. It has Keras's name too,
    under which weights files keep it. Whole models for others hold Keras's: see `backbones.stock`.
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """`(B, H, W, C)` to `(B, h, w, filters)`."""
        if not (training and self._is_product(inputs)):
            return super().call(inputs)
        height, width, channels = inputs.shape[1:]
        pixels = tf.reshape(inputs, (-1, channels))
        outputs = tf.matmul(pixels, tf.reshape(self.kernel, (-1, self.filters)))
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return self.activation(tf.reshape(outputs, (-1, height, width, self.filters)))

    def _is_product(self, inputs: Tensor) -> bool:
        return (
            self.kernel_size == (1, 1)
            and self.strides == (1, 1)
            and self.groups == 1
            and self.data_format == "channels_last"
            and None not in inputs.shape[1:]
            and not tf.config.list_logical_devices("GPU")
        )
