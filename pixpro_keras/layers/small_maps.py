"""Convolution of small maps side by side, for processors that multiply in tiles.

With AMX, oneDNN computes 16 neighboring cells of a row together. On maps of 3 x 3 cells, C5 of 96-pixel
images, it leaves 13 of them empty. Maps that are laid side by side, with zeros between them, fill
the tiles; the results are equal to the last bit (`benchmarks/README.md`).
"""

import functools

import tensorflow as tf

from pixpro_keras.types import Tensor
from pixpro_keras.utils.processor import cpu_flags, has_accelerator

# Largest width of the inputs, divided by the stride, and least number of filters for which this is faster.
_MOST_COLUMNS = 7
_LEAST_FILTERS = 512


@functools.cache
def _multiplies_tiles() -> bool:
    return "amx_bf16" in cpu_flags() and not has_accelerator()


class SideBySide:
    """A 3x3 convolution of maps side by side, and the gradient of its inputs.

    Args:
        size: height H and width W of the inputs.
        stride: 1 or, without padding and with an even W, 2.
        padding: "SAME" or "VALID".
    """

    def __init__(self, size: tuple[int, int], stride: int, padding: str):
        self._height, self._width = size
        self._stride = (1, stride, stride, 1)
        self._padding = padding
        # Columns of a map with the zeros after it, before and after the convolution.
        self._columns = self._width + (padding == "SAME")
        self._results = self._columns // stride
        # The outputs between two maps are not used; without padding there are none after the last map.
        unused = 1 if padding == "SAME" else -(-2 // stride)
        self._kept = self._results - unused
        self._missing = 0 if padding == "SAME" else unused

    def outputs(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """`(B, H, W, C)` to `(B, h, w, filters)`."""
        row = _side_by_side(inputs, self._columns)
        results = tf.nn.conv2d(row, kernel, self._stride, self._padding)
        results = tf.pad(results, [(0, 0), (0, 0), (0, self._missing), (0, 0)])
        return _apart(results, self._results, self._kept)

    def input_gradient(self, by_outputs: Tensor, kernel: Tensor) -> Tensor:
        """Gradient of the inputs, `(B, H, W, C)`, by that of the outputs, `(B, h, w, filters)`."""
        by_results = _side_by_side(by_outputs, self._results)
        count = tf.shape(by_results)[2] // self._results
        by_results = by_results[:, :, : count * self._results - self._missing]
        by_row = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=[1, self._height, count * self._columns, kernel.shape[2]],
            filter=kernel,
            out_backprop=by_results,
            strides=self._stride,
            padding=self._padding,
        )
        return _apart(by_row, self._columns, self._width)


def faster_side_by_side(
    inputs: Tensor, kernel: Tensor, stride: int, padding: str
) -> SideBySide | None:
    """A 3x3 convolution of maps side by side where it is faster than TensorFlow's, else None.

    Args:
        inputs: `(B, H, W, C)`.
        kernel: `(h, w, C, filters)`.
        stride: in both directions.
        padding: padding of TensorFlow's convolution, such as "SAME".
    """
    height, width = inputs.shape[1:3]
    if height is None or width is None or kernel.shape[:2] != (3, 3):
        return None
    if stride not in (1, 2) or padding not in ("SAME", "VALID"):
        return None
    is_possible = stride == 1 if padding == "SAME" else width % stride == 0
    is_small = width // stride <= _MOST_COLUMNS and kernel.shape[3] >= _LEAST_FILTERS
    if is_possible and is_small and inputs.dtype == tf.bfloat16 and _multiplies_tiles():
        return SideBySide((height, width), stride, padding)
    return None


def _side_by_side(maps: Tensor, columns: int) -> Tensor:
    """Maps `(B, H, W, C)`, each with zeros up to `columns`, in a row: `(1, H, B * columns, C)`."""
    _, height, width, channels = maps.shape
    padded = tf.pad(maps, [(0, 0), (0, 0), (0, columns - width), (0, 0)])
    return tf.reshape(tf.transpose(padded, (1, 0, 2, 3)), (1, height, -1, channels))


def _apart(row: Tensor, columns: int, kept: int) -> Tensor:
    """The first `kept` of each `columns` of a row `(1, H, B * columns, C)`: `(B, H, kept, C)`."""
    _, height, _, channels = row.shape
    maps = tf.reshape(row, (height, -1, columns, channels))
    maps = tf.slice(maps, (0, 0, 0, 0), (-1, -1, kept, -1))
    return tf.transpose(maps, (1, 0, 2, 3))
