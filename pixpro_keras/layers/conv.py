"""A convolution that is faster where matrix products do the same."""

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from pixpro_keras.layers.small_maps import faster_side_by_side
from pixpro_keras.types import Tensor
from pixpro_keras.utils.processor import has_accelerator

__all__ = ["Conv2D"]

# Largest number of pixels of a map, and least number of filters, for which products compute the
# gradient of a 3x3 kernel faster (`benchmarks/README.md`).
_MOST_PIXELS = 7 * 7
_LEAST_FILTERS = 128


@keras.saving.register_keras_serializable("pixpro_keras")
class Conv2D(keras.layers.Conv2D):
    """Keras's convolution with the same weights and results, faster on CPUs.

    A 1x1 convolution is a matrix product, and the gradient of a 3x3 kernel is nine of them. In
    training they are computed this way where it is faster: oneDNN's gradient of a 1x1 kernel takes
    two to five times as long as the product under TensorFlow's threads. In 16 bits the same holds
    for 1x1 kernels with a stride, and for 3x3 kernels on small maps (`benchmarks/README.md`). A
    dilated convolution is one operation; Keras cuts the map into pieces, convolves each and joins
    the results, which takes up to five times as long. In all other cases (other kernels and
    strides, groups, products on maps of unknown size; on GPUs and TPUs all but dilated convolutions)
    this is Keras's implementation. It also has Keras's name, under which weights files store it.
    Exported models contain Keras's layer: see `backbones.plain_network`.

    Args:
        **kwargs: arguments of `keras.layers.Conv2D`.

    Example:
        ```python
        import keras
        from pixpro_keras.layers import Conv2D

        convolution = Conv2D(16, 1)
        print(convolution(keras.random.normal((2, 4, 4, 8)), training=True).shape)  # (2, 4, 4, 16)
        ```
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """`(B, H, W, C)` to `(B, h, w, filters)`."""
        if training and self._is_product(inputs):
            outputs = _product(inputs, tf.convert_to_tensor(self.kernel), self.strides[0])
        elif training and self._has_kernel_of_products(inputs):
            convolve = _with_products_backwards(self.strides[0], self.padding.upper())
            outputs = convolve(inputs, tf.convert_to_tensor(self.kernel))
        elif self._is_dilated():
            convolve = _dilated(self.dilation_rate, self.padding.upper(), has_accelerator())
            outputs = convolve(inputs, tf.convert_to_tensor(self.kernel))
        else:
            return super().call(inputs)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs)

    def _is_product(self, inputs: Tensor) -> bool:
        if self.kernel_size != (1, 1) or not self._is_usual() or None in inputs.shape[1:]:
            return False
        if self.strides == (1, 1):
            return True
        is_divided = all(size % self.strides[0] == 0 for size in inputs.shape[1:3])
        return is_divided and inputs.dtype.size == 2

    def _has_kernel_of_products(self, inputs: Tensor) -> bool:
        if self.kernel_size != (3, 3) or not self._is_usual() or None in inputs.shape[1:]:
            return False
        _, height, width, filters = self.compute_output_shape(inputs.shape)
        is_small = filters >= _LEAST_FILTERS and height * width <= _MOST_PIXELS
        return is_small and self.dilation_rate == (1, 1) and inputs.dtype.size == 2

    def _is_dilated(self) -> bool:
        return (
            self.dilation_rate != (1, 1)
            and self.strides == (1, 1)
            and all(size % 2 for size in self.kernel_size)
            and self._is_usual(on_accelerators=True)
        )

    def _is_usual(self, on_accelerators: bool = False) -> bool:
        return (
            self.strides in ((1, 1), (2, 2))
            and self.groups == 1
            and self.data_format == "channels_last"
            and (on_accelerators or not has_accelerator())
        )


def _product(inputs: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """1x1 convolution as a matrix product; the stride must divide the map."""
    height, width, channels = inputs.shape[1:]
    height, width = height // stride, width // stride
    if stride > 1:
        inputs = _every(inputs, 0, 0, height, width, stride)
    pixels = tf.reshape(inputs, (-1, channels))
    outputs = tf.matmul(pixels, tf.reshape(kernel, kernel.shape[2:]))
    return tf.reshape(outputs, (-1, height, width, kernel.shape[3]))


def _every(x: Tensor, row: int, column: int, height: int, width: int, stride: int) -> Tensor:
    """Every `stride`-th pixel from `(row, column)` on, `(B, height, width, C)`.

    The size of the map must be a multiple of the stride. Slicing a reshaped map takes a tenth of the time
    of a strided slice.
    """
    _, rows, columns, channels = x.shape
    cut = tf.slice(
        tf.reshape(x, (-1, rows // stride, stride, columns // stride, stride * channels)),
        (0, row // stride, row % stride, column // stride, column % stride * channels),
        (-1, height, 1, width, channels),
    )
    return tf.reshape(cut, (-1, height, width, channels))


def _with_products_backwards(stride: int, padding: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Makes a 3x3 convolution that computes the gradient of its kernel by nine matrix products."""
    strides = (1, stride, stride, 1)

    @tf.custom_gradient
    def convolve(inputs: Tensor, kernel: Tensor) -> tuple[Tensor, Callable]:
        row = faster_side_by_side(inputs, kernel, stride, padding)

        def gradient(by_outputs: Tensor) -> tuple[Tensor, Tensor]:
            if row:
                by_inputs = row.input_gradient(by_outputs, kernel)
            else:
                by_inputs = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(inputs),
                    filter=kernel,
                    out_backprop=by_outputs,
                    strides=strides,
                    padding=padding,
                )
            return by_inputs, _kernel_gradient(inputs, by_outputs, stride, padding)

        if row:
            return row.outputs(inputs, kernel), gradient
        return tf.nn.conv2d(inputs, kernel, strides, padding), gradient

    return convolve


def _kernel_gradient(inputs: Tensor, by_outputs: Tensor, stride: int, padding: str) -> Tensor:
    """Gradient of a 3x3 kernel, `(3, 3, C, filters)`: inputs of each kernel cell times output gradients."""
    height, width, filters = by_outputs.shape[1:]
    margins = [(0, 0)]
    for size, out in zip(inputs.shape[1:3], (height, width), strict=True):
        before = zeros_before(size, out, 3, stride, padding)
        # Padded size: a multiple of the stride that contains the kernel's last row and column.
        margins.append((before, stride * (out + 2 // stride) - size - before))
    padded = tf.pad(inputs, [*margins, (0, 0)])
    places = [
        _every(padded, row, column, height, width, stride)
        for row in range(3)
        for column in range(3)
    ]
    return _products(places, by_outputs, (3, 3, inputs.shape[3], filters))


def zeros_before(size: int, out: int, reach: int, stride: int, padding: str) -> int:
    """Zeros that a convolution adds before the first row or column.

    Args:
        size: side of the inputs.
        out: side of the outputs.
        reach: side of the kernel.
        stride: in this direction.
        padding: "SAME" or "VALID".

    Example:
        ```python
        from pixpro_keras.layers.conv import zeros_before

        assert zeros_before(size=4, out=4, reach=3, stride=1, padding="SAME") == 1
        ```
    """
    return max((out - 1) * stride + reach - size, 0) // 2 if padding == "SAME" else 0


def _products(places: list[Tensor], by_outputs: Tensor, shape: Sequence[int]) -> Tensor:
    """Gradient of a kernel of shape `(h, w, C, filters)`, from the inputs of each of its `h * w` cells."""
    changes = tf.reshape(by_outputs, (-1, shape[3]))
    products = [
        tf.matmul(tf.reshape(seen, (-1, shape[2])), changes, transpose_a=True) for seen in places
    ]
    return tf.reshape(tf.stack(products), shape)


def _dilated(
    rate: tuple[int, int], padding: str, has_gradients: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    """Makes a dilated convolution.

    GPUs and TPUs have operations for its gradients (`has_gradients`), CPUs only with oneDNN.
    """
    if has_gradients:
        return functools.partial(tf.nn.conv2d, strides=1, padding=padding, dilations=rate)

    @tf.custom_gradient
    def convolve(inputs: Tensor, kernel: Tensor) -> tuple[Tensor, Callable]:
        reach = [step * (size - 1) for step, size in zip(rate, kernel.shape[:2], strict=True)]

        def gradient(by_outputs: Tensor) -> tuple[Tensor, Tensor]:
            # Slicing with a negative stride takes 35 times as long as gathering.
            cells = tf.reshape(kernel, (-1, *kernel.shape[2:]))
            turned = tf.gather(cells, range(cells.shape[0])[::-1])
            turned = tf.transpose(tf.reshape(turned, kernel.shape), (0, 1, 3, 2))
            seen, padded = inputs, by_outputs
            if padding == "SAME":
                seen = tf.pad(inputs, [(0, 0), *((far // 2, far // 2) for far in reach), (0, 0)])
            else:
                padded = tf.pad(by_outputs, [(0, 0), *((far, far) for far in reach), (0, 0)])
            by_inputs = tf.nn.conv2d(padded, turned, 1, padding, dilations=rate)
            _, height, width, _ = tf.unstack(tf.shape(by_outputs))  # of maps of any size
            places = [
                seen[:, top : top + height, left : left + width]
                for top in range(0, reach[0] + 1, rate[0])
                for left in range(0, reach[1] + 1, rate[1])
            ]
            return by_inputs, _products(places, by_outputs, kernel.shape)

        return tf.nn.conv2d(inputs, kernel, 1, padding, dilations=rate), gradient

    return convolve
