"""Encoded images with random access, so that the order of the samples needs no state."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from pixpro_keras.types import Tensor
from pixpro_keras.utils.fingerprint import sample


def to_label(number: Tensor) -> Tensor:
    """Converts integers to labels: -1, none, for what is no class number of 31 bits.

    Args:
        number: integers of any shape and type.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.sources.source import to_label

        assert to_label(tf.constant([3, -5, 2**33 + 1], tf.int64)).numpy().tolist() == [3, -1, -1]
        ```
    """
    number = tf.cast(number, tf.int64)
    is_label = (number >= 0) & (number < 2**31)
    return tf.cast(tf.where(is_label, number, -1), tf.int32)


@dataclasses.dataclass(frozen=True)
class Source:
    """Encoded images by number.

    Attributes:
        name: specification that opened the source.
        num_examples: number of images.
        read: in a graph, scalar int64 index to `{"image": encoded bytes, "label": int32}`; the
            label is -1 where there is none.
        describe: index to a readable name: a path, or a file and a record.
        class_names: names of the labels, where they are known.
        fingerprint: checksum of the images' names, below the place of the data, or of their records; empty
            where it is not known. Another one shows that the images changed.
        content_fingerprint: checksum of the sizes of their files, or of a sample of them; empty where it is
            not known, or where `fingerprint` has them.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data import Source

        def read(index):
            image = tf.fill((8, 8, 3), tf.cast(index, tf.uint8))
            return {"image": tf.io.encode_png(image), "label": tf.constant(-1)}

        source = Source("grays", 256, read, lambda index: f"gray {index}")
        ```
    """

    name: str
    num_examples: int
    read: Callable[[Tensor], dict[str, Tensor]]
    describe: Callable[[int], str]
    class_names: tuple[str, ...] | None = None
    fingerprint: str = ""
    content_fingerprint: str = ""

    def spread_indices(self, count: int) -> list[int]:
        """Indices of images at equal distances over the whole source.

        Args:
            count: largest number of indices.
        """
        return sample(self.num_examples, count)
