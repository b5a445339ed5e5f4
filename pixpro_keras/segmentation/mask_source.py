"""Images with a class for each pixel: the form of all data sets of segmentation."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from pixpro_keras.data.transforms.resize import resize_bilinear
from pixpro_keras.types import IGNORED, Tensor


@dataclasses.dataclass(frozen=True)
class MaskSource:
    """Images and their masks by index.

    Attributes:
        name: specification that opened the source.
        num_examples: number of images.
        read: in a graph, scalar int64 index to image, `(H, W, 3)` uint8, and mask, `(H, W)` int32:
            classes, and 255 for pixels to ignore.
        describe: index to a readable name.
        class_names: names of the classes 0, 1, ...
        values: values in the masks that are classes, where the classes have no other source.
        fingerprint: checksum of the images' names, below the place of the data, or of their records; empty
            where it is not known.
        content_fingerprint: checksum of the sizes of their files and those of the masks, or of a sample of
            them; empty where it is not known, or where `fingerprint` has them.

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
    values: tuple[int, ...] = ()
    fingerprint: str = ""
    content_fingerprint: str = ""


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
        image = resize_bilinear(image, size)
        mask = tf.image.resize(mask[..., None], size, "nearest")[..., 0]
        return tf.cast(tf.round(image), tf.uint8), mask

    return dataclasses.replace(source, read=read)


@dataclasses.dataclass(frozen=True)
class LabelValues:
    """Meaning of the values in masks.

    Attributes:
        ignored: value of pixels that do not count; None if all values are classes.
        classes: class of each value; where it is None, each value is the number of its class.

    Raises:
        ValueError: if a value is out of range, or is both ignored and a class.

    Example:
        ```python
        from pixpro_keras.segmentation.mask_source import LabelValues

        values = LabelValues(ignored=None, classes={0: 0, 255: 1})
        assert values.table(num_classes=2)[[0, 7, 255]].tolist() == [0, -1, 1]
        ```
    """

    ignored: int | None = IGNORED
    classes: Mapping[int, int] | None = None

    def __post_init__(self):
        """Checks the values."""
        for value in (*(self.classes or ()), *([] if self.ignored is None else [self.ignored])):
            if not 0 <= value <= 255:
                raise ValueError(f"values in masks must be in 0..255. Received: {value}.")
        for value, number in (self.classes or {}).items():
            if not 0 <= number < IGNORED:
                raise ValueError(f"classes must be in 0..254. Received: {value}:{number}.")
        if self.ignored in (self.classes or ()):
            raise ValueError(f"the value {self.ignored} cannot be both a class and ignored")

    def table(self, num_classes: int) -> np.ndarray:
        """Makes the table from values in masks to classes.

        Args:
            num_classes: number of classes.

        Returns:
            `(256,)` int32: a class, 255 where a pixel does not count, -1 where the value has no class.

        Raises:
            ValueError: if there are fewer classes than the values need.
        """
        table = np.full(256, -1, np.int32)
        classes = self.classes
        if classes is None:
            classes = {value: value for value in range(num_classes) if value != self.ignored}
        for value, number in classes.items():
            if number >= num_classes:
                raise ValueError(f"the value {value} is class {number}, of {num_classes} classes")
            table[value] = number
        if self.ignored is not None:
            table[self.ignored] = IGNORED
        return table


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
