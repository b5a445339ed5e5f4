"""Python inside input graphs: every `tf.numpy_function` of the package.

A call costs 20 to 100 us on top of its work, Python runs on one thread at a time, and other processes
(`tf.data` service) cannot run the graph. Each function states why it needs Python.
"""

import io
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from pixpro_keras.types import Tensor
from pixpro_keras.utils.shutdown import release_iterators_at_exit

# Threads of iterators wait for Python where these functions run.
release_iterators_at_exit()


class Records(Protocol):
    """Records with random access, such as `RecordFiles`."""

    def read(self, index: int) -> bytes:
        """The bytes of a record."""


def read_record(records: Records, index: Tensor) -> Tensor:
    """Reads a record by its number.

    In Python because TensorFlow reads TFRecord files from their beginning only. 20 to 100 us per image;
    Python's lock is free while the file is read.

    Args:
        records: the records.
        index: scalar int64.

    Returns:
        Scalar string.
    """
    record = tf.numpy_function(records.read, [index], tf.string, stateful=False)
    return tf.ensure_shape(record, ())


def report_unreadable(
    report: Callable[[int, bool], None], index: Tensor, is_last: Tensor
) -> Tensor:
    """Reports an image that cannot be decoded, and raises an error if it was the last candidate.

    In Python because the count and the names of broken images live there. Costs nothing until an
    image is broken.

    Args:
        report: function of the index, and of whether it was the last candidate.
        index: scalar int64.
        is_last: scalar bool.

    Returns:
        The index, for operations that must wait for the report.
    """

    def call(index: np.ndarray, is_last: np.ndarray) -> np.ndarray:
        report(int(index), bool(is_last))
        if is_last:
            raise ValueError("no readable image was found")
        return index

    return tf.ensure_shape(tf.numpy_function(call, [index, is_last], tf.int64), ())


def describe(names: Callable[[int], str], index: Tensor) -> Tensor:
    """Names an image, for an error.

    In Python because a constant with all names would be part of every graph. Costs nothing until there
    is an error.

    Args:
        names: index to name.
        index: scalar int64.

    Returns:
        Scalar string.
    """
    name = tf.numpy_function(lambda number: names(int(number)).encode(), [index], tf.string)
    return tf.ensure_shape(name, ())


def decode_indexed(encoded: Tensor) -> Tensor:
    """Decodes an image of one channel without applying its palette.

    In Python because TensorFlow turns the indices of a palette into their colors. Takes as long as PIL
    needs: about 0.5 ms per megapixel, mostly without Python's lock.

    Args:
        encoded: scalar string.

    Returns:
        `(H, W)` uint8.
    """
    decoded = tf.numpy_function(load_indexed, [encoded], tf.uint8, stateful=False)
    return tf.ensure_shape(decoded, (None, None))


def load_indexed(encoded: bytes) -> np.ndarray:
    """Decodes an image like `decode_indexed`, outside of graphs."""
    from PIL import Image

    if isinstance(encoded, np.ndarray):  # In eager mode.
        encoded = encoded.item()
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image)


def load_arrays(
    load: Callable[[np.ndarray], list[np.ndarray]],
    index: Tensor,
    signature: Sequence[tuple[tuple[int, ...], tf.DType]],
) -> list[Tensor]:
    """Loads the arrays of an example that Python holds, such as its boxes and masks.

    In Python because millions of boxes as constants would make the graph too large. 20 to 100 us
    per image, and where masks are drawn 0.1 ms (polygons) to 0.4 ms (RLE of 640 x 480) for each.

    Args:
        load: index to arrays.
        index: scalar int64.
        signature: shape and dtype of each array.
    """
    dtypes = [dtype for _, dtype in signature]
    loaded = tf.numpy_function(load, [index], dtypes, stateful=False)
    return [tf.ensure_shape(x, shape) for x, (shape, _) in zip(loaded, signature, strict=True)]
