"""Decoded images of a small set, kept in memory so that each is decoded once."""

from collections.abc import Callable

import tensorflow as tf
from absl import logging

from pixpro_keras.data.broken_images import decode_some
from pixpro_keras.data.sources.source import Source
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks
from pixpro_keras.utils.memory import machine_mib

__all__ = ["ImageCache", "plan_image_cache"]

_NUM_TRIES = 16
_LABEL_BYTES = 4


class ImageCache:
    """Cache of images and labels by index, bit-identical to reading them again.

    Images are stored as they are read, until the cache is full; other images are read from their source. It
    works in the graph of an input pipeline, in this process only.

    Args:
        max_mib: largest size of all images that are kept, in MiB.

    Raises:
        ValueError: if `max_mib` is not positive.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data import ImageCache

        cache = ImageCache(max_mib=1)

        def read(index):
            return tf.zeros((8, 8, 3), tf.uint8), tf.constant(5)

        for _ in range(2):  # the second image comes from the cache
            image, label = cache.read(tf.constant(0, tf.int64), read)
        assert image.shape == (8, 8, 3) and label == 5 and cache.num_images() == 1
        ```
    """

    def __init__(self, max_mib: float):
        self._max_bytes = int(checks.positive("max_mib", max_mib) * 2**20)
        with tf.device("cpu"):
            # A list of tensors is one entry; readers share its memory.
            self._entries = tf.raw_ops.AnonymousMutableHashTable(
                key_dtype=tf.int64, value_dtype=tf.variant
            )
            self._bytes = tf.Variable(0, dtype=tf.int64, trainable=False)

    def num_images(self) -> int:
        """Number of images that are kept."""
        return int(tf.raw_ops.LookupTableSizeV2(table_handle=self._entries))

    def read(
        self, index: Tensor, read: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Image and label, from the cache if they are there.

        Args:
            index: scalar int64.
            read: function of the index to an image `(H, W, 3)` uint8 and its label, scalar int32; called
                for images that are not in the cache, which then stores them if they fit.
        """
        empty = tf.raw_ops.EmptyTensorList(
            element_shape=-1, max_num_elements=2, element_dtype=tf.uint8
        )
        entry = tf.raw_ops.LookupTableFindV2(
            table_handle=self._entries, keys=index, default_value=empty
        )

        def item(number: int) -> Tensor:
            return tf.raw_ops.TensorListGetItem(
                input_handle=entry, index=number, element_shape=-1, element_dtype=tf.uint8
            )

        def from_cache() -> tuple[Tensor, Tensor]:
            label = tf.ensure_shape(item(1), (_LABEL_BYTES,))
            return tf.ensure_shape(item(0), (None, None, 3)), tf.bitcast(label, tf.int32)

        def from_source() -> tuple[Tensor, Tensor]:
            image, label = read(index)
            label = tf.cast(label, tf.int32)
            size = tf.size(image, tf.int64)
            fits = self._bytes + size <= self._max_bytes
            with tf.control_dependencies(
                [tf.cond(fits, lambda: put(image, label, size), tf.no_op)]
            ):
                return tf.identity(image), tf.identity(label)

        def put(image: Tensor, label: Tensor, size: Tensor) -> tf.Operation:
            values = empty
            for value in (image, tf.bitcast(label, tf.uint8)):
                values = tf.raw_ops.TensorListPushBack(input_handle=values, tensor=value)
            self._bytes.assign_add(size)
            return tf.raw_ops.LookupTableInsertV2(
                table_handle=self._entries, keys=index, values=values
            )

        is_there = tf.raw_ops.TensorListLength(input_handle=entry) > 0
        return tf.cond(is_there, from_cache, from_source)


def plan_image_cache(source: Source, memory_share: float) -> ImageCache | None:
    """Makes a cache if all decoded images of a source fit in a share of the memory; logs the decision.

    Their size is estimated from a few images spread over the source.

    Args:
        source: source of the images.
        memory_share: share of the machine's or container's memory, in [0, 1]; 0: no cache.

    Returns:
        The cache; None if it would be too large.

    Raises:
        ValueError: if `memory_share` is not in [0, 1].

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data import Source, plan_image_cache

        def read(index):
            return {"image": tf.io.encode_png(tf.zeros((8, 8, 3), tf.uint8)), "label": -1}

        cache = plan_image_cache(Source("black", 5, read, str), memory_share=0.1)
        assert cache.num_images() == 0
        ```
    """
    checks.in_range("memory_share", memory_share, 0, 1)
    if not memory_share:
        return None
    sizes = [int(tf.size(image)) for image in decode_some(source, _NUM_TRIES)]
    max_mib = memory_share * machine_mib()
    mib = sum(sizes) / max(len(sizes), 1) * source.num_examples / 2**20
    what = f"{source.name}: {source.num_examples} decoded images take about {mib:,.0f} MiB"
    limit = f"{memory_share:.0%} of the memory, {max_mib:,.0f} MiB"
    if not sizes or mib > max_mib:
        logging.info("%s, more than %s: they are decoded in every epoch", what, limit)
        return None
    logging.info("%s, within %s: they are kept in memory", what, limit)
    return ImageCache(max_mib)
