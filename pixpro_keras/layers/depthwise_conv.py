"""A depthwise convolution whose gradients in 16 bits are fast on CPUs."""

from collections.abc import Callable

import keras
import tensorflow as tf

from pixpro_keras.layers.conv import zeros_before
from pixpro_keras.types import Tensor
from pixpro_keras.utils.processor import has_accelerator

__all__ = ["DepthwiseConv2D"]

# Least side of a kernel whose gradient is faster as a convolution with the gradients of the outputs.
_LEAST_SIDE = 5


@keras.saving.register_keras_serializable("pixpro_keras")
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras's depthwise convolution with the same weights and outputs, trained faster in 16 bits on CPUs.

    TensorFlow's gradients in bfloat16 take up to 30 times as long as in float32. Here both are depthwise
    convolutions too (`benchmarks/README.md`): that of the inputs with the turned kernel, that of a kernel of
    5x5 or more with the gradients of the outputs as kernel. In all other
    cases (float32, GPUs and TPUs, maps of unknown size, dilation) this is Keras's implementation.
    It also has Keras's name, under which weights files store it. Exported models contain Keras's
    layer: see `backbones.plain_network`.

    Args:
        **kwargs: arguments of `keras.layers.DepthwiseConv2D`.

    Example:
        ```python
        import keras
        from pixpro_keras.layers import DepthwiseConv2D

        convolution = DepthwiseConv2D(3, padding="same")
        print(convolution(keras.random.normal((2, 4, 4, 8)), training=True).shape)  # (2, 4, 4, 8)
        ```
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """`(B, H, W, C)` to `(B, h, w, C * depth_multiplier)`."""
        if not (training and self._has_fast_gradients(inputs)):
            return super().call(inputs)
        convolve = _with_fast_gradients(self.strides[0], self.padding.upper())
        outputs = convolve(inputs, tf.convert_to_tensor(self.kernel))
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs)

    def _has_fast_gradients(self, inputs: Tensor) -> bool:
        return (
            inputs.dtype.size == 2
            and self.strides[0] == self.strides[1]
            and self.dilation_rate == (1, 1)
            and self.depth_multiplier == 1
            and self.data_format == "channels_last"
            and None not in inputs.shape[1:]
            and not has_accelerator()
        )


def _with_fast_gradients(stride: int, padding: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Makes a depthwise convolution whose gradients are depthwise convolutions."""
    strides = (1, stride, stride, 1)

    @tf.custom_gradient
    def convolve(inputs: Tensor, kernel: Tensor) -> tuple[Tensor, Callable]:
        def gradients(by_outputs: Tensor) -> tuple[Tensor, Tensor]:
            if min(kernel.shape[:2]) < _LEAST_SIDE:
                by_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                    input=inputs,
                    filter_sizes=kernel.shape,
                    out_backprop=by_outputs,
                    strides=strides,
                    padding=padding,
                )
            else:
                by_kernel = _kernel_gradient(inputs, by_outputs, kernel, stride, padding)
            return _input_gradient(inputs, by_outputs, kernel, stride, padding), by_kernel

        def gradient(by_outputs: Tensor) -> tuple[Tensor, Tensor]:
            def zeros() -> tuple[Tensor, Tensor]:
                return tf.zeros_like(inputs), tf.zeros_like(kernel)

            # Of an empty batch oneDNN gives outputs of a wrong shape, or none.
            if inputs.shape[0] is None:
                return tf.cond(tf.shape(inputs)[0] > 0, lambda: gradients(by_outputs), zeros)
            return gradients(by_outputs) if inputs.shape[0] else zeros()

        return tf.nn.depthwise_conv2d(inputs, kernel, strides, padding), gradient

    return convolve


def _input_gradient(
    inputs: Tensor, by_outputs: Tensor, kernel: Tensor, stride: int, padding: str
) -> Tensor:
    """Gradient of the inputs: output gradients, with zeros between them, convolved with the turned kernel."""
    margins = []
    for size, out, reach, zeros in _axes(inputs, by_outputs, kernel, stride, padding):
        before = reach - 1 - zeros
        margins.append((before, size + reach - 1 - before - stride * out))
    spread = by_outputs
    if stride > 1:
        _, height, width, channels = by_outputs.shape
        spread = tf.reshape(spread, (-1, height, 1, width, 1, channels))
        between = (0, stride - 1)
        spread = tf.pad(spread, [(0, 0), (0, 0), between, (0, 0), between, (0, 0)])
        spread = tf.reshape(spread, (-1, stride * height, stride * width, channels))
    return tf.nn.depthwise_conv2d(
        _with_margins(spread, margins), tf.reverse(kernel, [0, 1]), (1, 1, 1, 1), "VALID"
    )


def _kernel_gradient(
    inputs: Tensor, by_outputs: Tensor, kernel: Tensor, stride: int, padding: str
) -> Tensor:
    """Gradient of the kernel: inputs convolved with the output gradients, images and channels as channels."""
    margins = [
        (zeros, (out - 1) * stride + reach - size - zeros)
        for size, out, reach, zeros in _axes(inputs, by_outputs, kernel, stride, padding)
    ]
    by_image = tf.nn.depthwise_conv2d(
        _images_as_channels(_with_margins(inputs, margins))[None],
        _images_as_channels(by_outputs)[..., None],
        (1, 1, 1, 1),
        "VALID",
        dilations=(stride, stride),
    )
    by_image = tf.reshape(by_image, (*kernel.shape[:2], -1, inputs.shape[3]))
    total = tf.reduce_sum(tf.cast(by_image, tf.float32), axis=2)
    return tf.cast(total[..., None], kernel.dtype)


def _axes(
    inputs: Tensor, outputs: Tensor, kernel: Tensor, stride: int, padding: str
) -> list[tuple[int, int, int, int]]:
    """Sides of inputs, outputs and kernel, and zeros before the inputs; for rows, then for columns."""
    sides = zip(inputs.shape[1:3], outputs.shape[1:3], kernel.shape[:2], strict=True)
    return [(*side, zeros_before(*side, stride, padding)) for side in sides]


def _with_margins(maps: Tensor, margins: list[tuple[int, int]]) -> Tensor:
    """Maps with zeros around them; a negative margin, after the last row or column, is cut off."""
    pairs = zip(maps.shape[1:3], margins, strict=True)
    rows, columns = (size + min(after, 0) for size, (_, after) in pairs)
    positive = [(before, max(after, 0)) for before, after in margins]
    return tf.pad(maps[:, :rows, :columns], [(0, 0), *positive, (0, 0)])


def _images_as_channels(maps: Tensor) -> Tensor:
    """`(B, H, W, C)` to `(H, W, B * C)`."""
    _, height, width, _ = maps.shape
    return tf.reshape(tf.transpose(maps, (1, 2, 0, 3)), (height, width, -1))
