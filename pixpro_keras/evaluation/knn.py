"""Weighted k-nearest-neighbor classification."""

import numpy as np
import tensorflow as tf
from keras import ops

from pixpro_keras.ops import l2_normalize
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

Array = np.ndarray
_GROUP = 16  # Values per group, represented by their maximum.


def weighted_knn(
    train_features: Array,
    train_labels: Array,
    features: Array,
    *,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
    block_size: int = 4096,
) -> Array:
    """Scores of each class from the k nearest training features.

    A neighbor at cosine `c` votes `exp(c / temperature)` for its label. Queries and training
    features go to the accelerator in blocks of one static shape, so that the matrix of all pairs is
    never in memory. Of equally similar training features, the first ones vote.

    Args:
        train_features: `(M, C)`.
        train_labels: `(M,)`, class indices in [0, num_classes).
        features: `(N, C)`.
        num_classes: number of classes.
        k: number of neighbors, 1 to M.
        temperature: divisor of the cosines, positive.
        block_size: most rows of a block, of queries and of training features.

    Returns:
        `(N, num_classes)` float32; the largest is the prediction. Scores are relative to the
        nearest neighbor's vote; those of classes without votes are -inf.

    Raises:
        ValueError: if an argument is out of its range, shapes differ, or a feature is not finite.

    Reference:
        Wu et al., CVPR 2018, arXiv:1805.01978.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.evaluation import top_k_accuracy, weighted_knn

        labels = np.arange(20) % 2
        features = np.random.rand(20, 4).astype("float32")
        features[:, 0] += 5 * labels
        scores = weighted_knn(features, labels, features, num_classes=2, k=3)
        print(top_k_accuracy(scores, labels))
        ```
    """
    train_features, train_labels, features = map(
        np.asarray, (train_features, train_labels, features)
    )
    checks.in_range("k", k, 1, len(train_features))
    checks.positive("temperature", temperature)
    checks.at_least("block_size", block_size, 1)
    _check_data(train_features, train_labels, features, num_classes)
    scores = np.full((len(features), num_classes), -np.inf, np.float32)
    query_size = _even_size(len(features), block_size)
    for begin in range(0, len(features), query_size):
        queries = features[begin : begin + query_size]
        cosines, indices = _nearest(_pad_rows(queries, query_size), train_features, k, block_size)
        cosines, indices = cosines[: len(queries)], indices[: len(queries)]
        votes = np.exp((cosines - cosines[:, :1]) / temperature)
        voted = np.arange(begin, begin + len(queries))[:, None], train_labels[indices]
        scores[voted] = 0.0
        np.add.at(scores, voted, votes)
    return scores


def _check_data(
    train_features: Array, train_labels: Array, features: Array, num_classes: int
) -> None:
    if train_features.ndim != 2 or train_features.shape[1:] != features.shape[1:]:
        raise ValueError(
            "`train_features` and `features` must be (M, C) and (N, C). "
            f"Received: {train_features.shape} and {features.shape}."
        )
    _check_labels("train_labels", train_labels, len(train_features), num_classes)
    for name, array in (("train_features", train_features), ("features", features)):
        # A sum needs no second array of that size, and cannot overflow in float64.
        if not np.isfinite(np.sum(array, dtype=np.float64)):
            raise ValueError(f"`{name}` must be finite. Received: NaN or infinity.")


def _check_labels(name: str, labels: Array, count: int, num_classes: int) -> None:
    if labels.shape != (count,):
        raise ValueError(f"`{name}` must be {(count,)}. Received: {labels.shape}.")
    if count and (labels.min() < 0 or labels.max() >= num_classes):
        raise ValueError(
            f"`{name}` must be in [0, {num_classes}). Received: {labels.min()} to {labels.max()}."
        )


def _nearest(queries: Array, train_features: Array, k: int, block_size: int) -> tuple[Array, Array]:
    """Cosines, largest first, and indices of the k nearest training features: `(n, k)` each."""
    size = _even_size(len(train_features), block_size)
    size = min(-(-size // _GROUP) * _GROUP, block_size)
    queries = l2_normalize(queries)
    best = ops.full((queries.shape[0], k), -np.inf, "float32")
    indices = ops.zeros((queries.shape[0], k), "int32")
    for begin in range(0, len(train_features), size):
        block = train_features[begin : begin + size]
        best, indices = _merge(
            best,
            indices,
            queries,
            tf.constant(_pad_rows(block, size)),
            tf.constant(begin, "int32"),
            tf.constant(len(block), "int32"),
        )
    return ops.convert_to_numpy(best), ops.convert_to_numpy(indices)


@tf.function
def _merge(
    best: Tensor, indices: Tensor, queries: Tensor, block: Tensor, begin: Tensor, count: Tensor
) -> tuple[Tensor, Tensor]:
    """Merges the k nearest so far with those of a block, of which the first `count` rows are valid."""
    k, size = best.shape[1], block.shape[0]
    cosines = ops.matmul(queries, ops.transpose(l2_normalize(block)))
    is_feature = tf.range(size) < count
    cosines = tf.cond(count < size, lambda: tf.where(is_feature, cosines, -np.inf), lambda: cosines)
    nearest, rows = _top_k(cosines, min(k, size))
    all_indices = ops.concatenate([indices, begin + ops.cast(rows, "int32")], axis=1)
    # Ties keep their order, with earlier blocks first.
    best, chosen = ops.top_k(ops.concatenate([best, nearest], axis=1), k)
    return best, ops.take_along_axis(all_indices, chosen, axis=1)


def _top_k(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Equals `tf.math.top_k` of `(n, m)`, also for ties, in a quarter of the time.

    Only the k groups with the largest maxima can contain the k largest values.
    """
    size = values.shape[1]
    if size % _GROUP or size // _GROUP <= k:
        return tf.math.top_k(values, k)
    groups = tf.reshape(values, (-1, size // _GROUP, _GROUP))
    chosen = tf.math.top_k(tf.reduce_max(groups, axis=-1), k).indices
    chosen = tf.sort(chosen, axis=1)  # Ties keep their order.
    candidates = tf.reshape(tf.gather(groups, chosen, batch_dims=1), (-1, k * _GROUP))
    largest, places = tf.math.top_k(candidates, k)
    rows = tf.gather(chosen, places // _GROUP, batch_dims=1) * _GROUP + places % _GROUP
    return largest, rows


def _even_size(count: int, most: int) -> int:
    """Rows per block: the smallest size, 1 or more, with as many blocks as `most` rows need."""
    return max(-(-count // max(-(-count // most), 1)), 1)


def _pad_rows(rows: Array, size: int) -> Array:
    """Pads rows with zeros to `size` rows."""
    return np.pad(rows, [(0, size - len(rows)), (0, 0)])


def top_k_accuracy(scores: Array, labels: Array, k: int = 1) -> float:
    """Fraction of rows whose label is among the k largest scores.

    A class with the score -inf, which is impossible, or NaN never is. Of equal scores, those of the first
    classes rank first.

    Args:
        scores: `(N, num_classes)`, such as logits. Probabilities in float32 may round to 0, and be ties.
        labels: `(N,)`.
        k: number of predictions per row, at least 1.

    Returns:
        Fraction in [0, 1].

    Raises:
        ValueError: if there is not one label in [0, num_classes) for each row.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.evaluation import top_k_accuracy

        scores = np.array([[0.9, 0.1], [0.8, 0.2]])
        print(top_k_accuracy(scores, np.array([0, 1])))  # 0.5
        ```
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    _check_labels("labels", labels, len(scores), scores.shape[1])
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    is_possible = np.take_along_axis(scores, best, axis=1) > -np.inf
    return float(np.mean(((best == labels[:, None]) & is_possible).any(axis=1)))
