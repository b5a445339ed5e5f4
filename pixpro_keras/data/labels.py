"""Labels of a source, and parts of it that keep the share of each class."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pixpro_keras.data.sources import Source


def read_labels(source: Source) -> np.ndarray:
    """The labels of all images: `(N,)` int32, -1 where there is none. No image is decoded."""
    data = tf.data.Dataset.range(source.num_examples)
    data = data.map(lambda index: source.read(index)["label"], num_parallel_calls=tf.data.AUTOTUNE)
    return np.concatenate(list(data.batch(4096).as_numpy_iterator())).astype("int32")


def stratified_subset(labels: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
    """Draws a share of the examples of each class, at least one.

    Args:
        labels: `(N,)`.
        fraction: in (0, 1].
        seed: of the drawing.

    Returns:
        Positions in `labels`, ascending.

    Raises:
        ValueError: if the fraction is out of its range.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"`fraction` must be in (0, 1]. Received: fraction={fraction}.")
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        count = max(round(fraction * len(of_class)), 1)
        chosen.append(rng.choice(of_class, count, replace=False))
    return np.sort(np.concatenate(chosen))


def select(source: Source, indices: Sequence[int] | np.ndarray) -> Source:
    """A part of a source: its examples at the given positions, in that order."""
    positions = np.asarray(indices, np.int64)
    table = tf.constant(positions)
    return dataclasses.replace(
        source,
        num_examples=len(positions),
        read=lambda index: source.read(table[index]),
        describe=lambda index: source.describe(int(positions[index])),
    )
