"""Weighted k-nearest-neighbour classification."""

import numpy as np
from keras import ops

from pixpro_keras import checks
from pixpro_keras.ops import l2_normalize

Array = np.ndarray


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

    A neighbour at cosine `c` votes `exp(c / temperature)` for its label. Queries and training
    features are taken in blocks, so that no matrix of all pairs exists. Among equally similar
    training features the first ones vote.

    Args:
        train_features: `(M, C)`.
        train_labels: `(M,)`, class indices in [0, num_classes).
        features: `(N, C)`.
        num_classes: number of classes.
        k: neighbours, 1 to M.
        temperature: positive.
        block_size: rows of a block, of queries and of training features.

    Returns:
        `(N, num_classes)` float32; the largest is the prediction. Scores are relative to the
        nearest neighbour's vote.

    Raises:
        ValueError: if an argument is out of its range, shapes differ, or a feature is not finite.

    Reference:
        Wu et al., CVPR 2018, arXiv:1805.01978.
    """
    if not 1 <= k <= len(train_features):
        raise ValueError(f"`k` must be in 1..{len(train_features)}. Received: k={k}.")
    checks.positive("temperature", temperature)
    if block_size < 1:
        raise ValueError(f"`block_size` must be at least 1. Received: block_size={block_size}.")
    _check_data(train_features, train_labels, features, num_classes)
    scores = np.zeros((len(features), num_classes), np.float32)
    for begin in range(0, len(features), block_size):
        queries = l2_normalize(features[begin : begin + block_size])
        cosines, labels = _nearest(queries, train_features, train_labels, k, block_size)
        votes = np.exp((cosines - cosines[:, :1]) / temperature)
        rows = np.arange(begin, begin + len(cosines))[:, None]
        np.add.at(scores, (rows, labels), votes)
    return scores


def _check_data(
    train_features: Array, train_labels: Array, features: Array, num_classes: int
) -> None:
    if train_features.ndim != 2 or train_features.shape[1:] != features.shape[1:]:
        raise ValueError(
            "`train_features` and `features` must be (M, C) and (N, C). "
            f"Received: {train_features.shape} and {features.shape}."
        )
    if train_labels.shape != train_features.shape[:1]:
        raise ValueError(
            f"`train_labels` must be {train_features.shape[:1]}. Received: {train_labels.shape}."
        )
    if train_labels.min() < 0 or train_labels.max() >= num_classes:
        raise ValueError(
            f"`train_labels` must be in [0, {num_classes}). "
            f"Received: {train_labels.min()} to {train_labels.max()}."
        )
    for name, array in (("train_features", train_features), ("features", features)):
        # A sum needs no second array of that size, and cannot overflow in float64.
        if not np.isfinite(np.sum(array, dtype=np.float64)):
            raise ValueError(f"`{name}` must be finite. Received: NaN or infinity.")


def _nearest(queries, train_features, train_labels, k, block_size) -> tuple[Array, Array]:
    """Cosines, largest first, and labels of the k nearest: `(n, k)` each."""
    best = np.empty((len(queries), 0), np.float32)
    best_labels = np.empty((len(queries), 0), train_labels.dtype)
    for begin in range(0, len(train_features), block_size):
        block = l2_normalize(train_features[begin : begin + block_size])
        cosines = ops.matmul(queries, ops.transpose(block))
        top, places = ops.top_k(cosines, min(k, block.shape[0]))
        labels = train_labels[begin + ops.convert_to_numpy(places)]
        top = np.concatenate([best, ops.convert_to_numpy(top)], axis=1)
        labels = np.concatenate([best_labels, labels], axis=1)
        order = np.argsort(-top, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(top, order, axis=1)
        best_labels = np.take_along_axis(labels, order, axis=1)
    return best, best_labels


def top_k_accuracy(scores: Array, labels: Array, k: int = 1) -> float:
    """Share of rows whose label is among the k largest scores; a class without votes never is."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    has_votes = np.take_along_axis(scores, best, axis=1) > 0
    return float(np.mean(((best == labels[:, None]) & has_votes).any(axis=1)))
