"""Which image comes when: a function of seed and place in the stream, so that there is no state."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import tensorflow as tf

from pixpro_keras.data.sources import Source
from pixpro_keras.types import Tensor

if TYPE_CHECKING:
    from pixpro_keras.segmentation.mask_source import MaskSource

# An unreadable image gives its place to another one; after so many in a row the run stops.
CANDIDATES = 8


def image_at(
    position: Tensor, attempt: Tensor, total: int, global_batch_size: int, seed: int
) -> Tensor:
    """The number of the image of a place in the stream of batches.

    A pass takes `total // global_batch_size * global_batch_size` of the images in a new random order.

    Args:
        position: of the image in the stream, counted from 0: scalar int64.
        attempt: 0; at later ones it is an image from elsewhere in the same pass.
        total: number of images.
        global_batch_size: images per step of all machines together.
        seed: of the order.

    Returns:
        Scalar int64 in [0, total).
    """
    per_pass = total // global_batch_size * global_batch_size
    number, within = position // per_pass, position % per_pass
    order_seed = tf.cast(tf.stack([tf.constant(seed, tf.int64), number]), tf.uint32)
    elsewhere = (within + attempt * max(total // CANDIDATES, 1)) % total
    return tf.random.experimental.index_shuffle(elsewhere, order_seed, total - 1)


def name_images(
    source: "Source | MaskSource",
    seed: int,
    global_batch_size: int,
    step: int,
    broken: Collection[int] = (),
) -> list[str]:
    """What the images of a training step are called, in their order.

    Args:
        source: the images.
        seed: of the order.
        global_batch_size: images per step of all machines together.
        step: counted from 0.
        broken: numbers of broken images, in whose place others came.
    """
    names = []
    for position in range(step * global_batch_size, (step + 1) * global_batch_size):
        for attempt in range(CANDIDATES):
            index = int(
                image_at(
                    tf.constant(position, tf.int64),
                    tf.constant(attempt, tf.int64),
                    source.num_examples,
                    global_batch_size,
                    seed,
                )
            )
            if index not in broken:
                break
        names.append(source.describe(index))
    return names
