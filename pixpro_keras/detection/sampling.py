"""Random choice of positives and negatives, with shapes that do not depend on the data."""

import tensorflow as tf
from keras import ops

from pixpro_keras.detection.matching import NEGATIVE, POSITIVE
from pixpro_keras.types import Tensor


def image_noise(seeds: Tensor, count: int, offset: int) -> Tensor:
    """Uniform numbers that depend only on the image's seed, not on its replica.

    Args:
        seeds: `(B, 2)` integers.
        count: N, numbers for each image.
        offset: number added to the seeds; each use of one image's seed has its own.

    Returns:
        `(B, N)` float32 in [0, 1).
    """
    rows = tf.unstack(seeds + tf.constant([0, offset], seeds.dtype))
    return tf.stack([tf.random.stateless_uniform((count,), seed=row) for row in rows])


def subsample_labels(
    labels: Tensor, noise: Tensor, num_samples: int, positive_fraction: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Samples candidates at random: positives up to a fraction, and negatives for the rest.

    Args:
        labels: `(B, N)`, as from `match_boxes`.
        noise: `(B, N)` in [0, 1): random numbers that decide.
        num_samples: S, candidates picked per image, at most N.
        positive_fraction: largest fraction of positives among them, in [0, 1].

    Returns:
        Indices of the candidates, `(B, S)` int64, positives first; whether each is positive, and
        whether it is valid, `(B, S)` booleans. Where there are too few candidates, the rest of the
        indices is padding and not valid.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import subsample_labels

        labels = np.array([[1, 1, 1, 0, 0, 0, -1, -1]])
        noise = np.random.rand(1, 8).astype("float32")
        indices, is_positive, is_valid = subsample_labels(labels, noise, 4, 0.25)
        print(indices, is_positive)  # one positive, three negatives
        ```
    """
    num_samples = min(num_samples, labels.shape[1])
    max_positives = int(num_samples * positive_fraction)
    positive_noise, positives = ops.top_k(ops.where(labels == POSITIVE, noise, -1.0), max_positives)
    negative_noise, negatives = ops.top_k(ops.where(labels == NEGATIVE, noise, -1.0), num_samples)
    is_positive = positive_noise >= 0
    num_positive = ops.sum(ops.cast(is_positive, "int64"), axis=1, keepdims=True)
    has_room = ops.arange(num_samples, dtype="int64") < num_samples - num_positive
    is_negative = (negative_noise >= 0) & has_room
    # Positives, then negatives, then padding, since top_k keeps the order of ties.
    ranks = ops.concatenate([2 * ops.cast(is_positive, "int64"), ops.cast(is_negative, "int64")], 1)
    ranks, order = ops.top_k(ranks, num_samples)
    indices = ops.concatenate([ops.cast(x, "int64") for x in (positives, negatives)], axis=1)
    return tf.gather(indices, order, batch_dims=1), ranks == 2, ranks > 0
