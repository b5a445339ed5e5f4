"""Random choice of positives and negatives, with shapes that do not depend on the data."""

import tensorflow as tf
from keras import ops

from pixpro_keras.detection.matching import NEGATIVE, POSITIVE
from pixpro_keras.types import Tensor


def image_noise(seeds: Tensor, count: int, purpose: int) -> Tensor:
    """Uniform numbers that depend on the image's seed alone, not on the replica it is on.

    Args:
        seeds: `(B, 2)` integers.
        count: numbers for each image, N.
        purpose: a number that makes the draws of one image differ from each other.

    Returns:
        `(B, N)` float32 in [0, 1).
    """
    rows = tf.unstack(seeds + tf.constant([0, purpose], seeds.dtype))
    return tf.stack([tf.random.stateless_uniform((count,), seed=row) for row in rows])


def sample(
    labels: Tensor, noise: Tensor, num_samples: int, positive_share: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Picks candidates at random: positives up to a share, and negatives for the rest.

    Args:
        labels: `(B, N)`, as `match` returns them.
        noise: `(B, N)` in [0, 1): random numbers that decide.
        num_samples: candidates picked per image, S; at most N.
        positive_share: largest share of positives among them, in [0, 1].

    Returns:
        Candidates' numbers, `(B, S)` int32, positives first; whether each is positive, and whether
        it counts at all, `(B, S)` booleans. Where there are too few candidates the rest does not
        count.
    """
    num_candidates = labels.shape[1]
    num_samples = min(num_samples, num_candidates)
    room = min(int(num_samples * positive_share), num_samples)
    positive_noise, positives = ops.top_k(ops.where(labels == POSITIVE, noise, -1.0), room)
    negative_noise, negatives = ops.top_k(ops.where(labels == NEGATIVE, noise, -1.0), num_samples)
    is_positive = positive_noise >= 0
    num_positive = ops.sum(ops.cast(is_positive, "int32"), axis=1, keepdims=True)
    is_negative = (negative_noise >= 0) & (ops.arange(num_samples) < num_samples - num_positive)
    # Positives, then negatives, then what does not count: top_k keeps the order of equals.
    ranks = ops.concatenate([2 * ops.cast(is_positive, "int32"), ops.cast(is_negative, "int32")], 1)
    ranks, places = ops.top_k(ranks, num_samples)
    indices = tf.gather(ops.concatenate([positives, negatives], axis=1), places, batch_dims=1)
    return ops.cast(indices, "int32"), ranks == 2, ranks > 0
