"""Images with a class for each pixel: the form of all data sets of segmentation."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pixpro_keras.types import IGNORED, Tensor


@dataclasses.dataclass(frozen=True)
class MaskSource:
    """Images and their masks by number.

    Attributes:
        name: specification that opened the source.
        num_examples: number of images.
        read: in a graph, scalar int64 index to image, `(H, W, 3)` uint8, and mask, `(H, W)` int32:
            classes, and 255 where a pixel does not count.
        describe: index to a name for people.
        class_names: names of the classes 0, 1, ...

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.segmentation.mask_source import MaskSource

        def read(index):
            return tf.zeros((8, 8, 3), tf.uint8), tf.fill((8, 8), tf.cast(index % 2, tf.int32))

        source = MaskSource("parity", 10, read, str, ("even", "odd"))
        ```
    """

    name: str
    num_examples: int
    read: Callable[[Tensor], tuple[Tensor, Tensor]]
    describe: Callable[[int], str]
    class_names: tuple[str, ...]


def resized(source: MaskSource, size: tuple[int, int]) -> MaskSource:
    """Scales all images and masks of a source to one size; masks without interpolation.

    Args:
        source: images and masks.
        size: height and width in pixels.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.segmentation.mask_source import MaskSource, resized

        def read(index):
            return tf.zeros((8, 8, 3), tf.uint8), tf.zeros((8, 8), tf.int32)

        small = resized(MaskSource("black", 1, read, str, ("ground",)), (4, 6))
        image, mask = small.read(tf.constant(0))
        assert image.shape == (4, 6, 3)
        ```
    """

    def read(index: Tensor) -> tuple[Tensor, Tensor]:
        image, mask = source.read(index)
        image = tf.image.resize(image, size, "bilinear", antialias=True)
        mask = tf.image.resize(mask[..., None], size, "nearest")[..., 0]
        return tf.cast(tf.round(image), tf.uint8), mask

    return dataclasses.replace(source, read=read)


def class_table(values: np.ndarray) -> np.ndarray:
    """Makes the table from values in masks to classes.

    Args:
        values: value of each class in the masks; all other values do not count.

    Returns:
        `(256,)` int32: the index in `values`, or 255.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.segmentation.mask_source import class_table

        assert class_table(np.array([7, 8]))[[7, 8, 9]].tolist() == [0, 1, 255]
        ```
    """
    table = np.full(256, IGNORED, np.int32)
    table[values] = np.arange(len(values))
    return table
