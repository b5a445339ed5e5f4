"""Labels of a source, and parts of it that keep the share of each class."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf

from pixpro_keras.data.sources import Source
from pixpro_keras.segmentation.mask_source import MaskSource
from pixpro_keras.types import Tensor

AnySource = TypeVar("AnySource", Source, MaskSource)


def read_labels(source: Source) -> np.ndarray:
    """The labels of all images: `(N,)` int32, -1 where there is none. No image is decoded."""
    data = tf.data.Dataset.range(source.num_examples)
    data = data.map(lambda index: source.read(index)["label"], num_parallel_calls=tf.data.AUTOTUNE)
    return np.concatenate(list(data.batch(4096).as_numpy_iterator())).astype("int32")


def stratified_subset(
    labels: np.ndarray, fraction: float, seed: int = 0, num_left: int = 0
) -> np.ndarray:
    """Draws a share of the examples of each class, at least one.

    Args:
        labels: `(N,)`.
        fraction: in (0, 1].
        seed: of the drawing.
        num_left: so many examples of each class are never drawn.

    Returns:
        Positions in `labels`, ascending.

    Raises:
        ValueError: if the fraction is out of its range.
    """
    _check_fraction(fraction)
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        count = min(max(round(fraction * len(of_class)), 1), max(len(of_class) - num_left, 0))
        chosen.append(rng.choice(of_class, count, replace=False))
    return np.sort(np.concatenate(chosen))


def read_presence(source: MaskSource) -> np.ndarray:
    """Which classes each image has a pixel of: `(N, K)` bool."""
    num_classes = len(source.class_names)

    def present(index: Tensor) -> Tensor:
        _, mask = source.read(index)
        # Pixels that do not count fall beyond the last class.
        found = tf.math.bincount(tf.reshape(mask, (-1,)), minlength=256, maxlength=256)
        return found[:num_classes] > 0

    data = tf.data.Dataset.range(source.num_examples)
    data = data.map(present, num_parallel_calls=tf.data.AUTOTUNE)
    return np.concatenate(list(data.batch(1024).as_numpy_iterator()))


def stratified_images(presence: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
    """Draws a share of images that hold several classes, so that each class keeps its share.

    While a class has less than its share, and at least one image, an image that holds it is drawn,
    the rarest class first; what is then missing is drawn from all. Where classes are rare, that can
    be a few images more.

    Args:
        presence: `(N, K)` bool, whether an image holds a class.
        fraction: in (0, 1].
        seed: of the drawing.

    Returns:
        Positions, ascending.

    Raises:
        ValueError: if the fraction is out of its range.

    Reference:
        Sechidis et al., "On the Stratification of Multi-Label Data", ECML 2011.
    """
    _check_fraction(fraction)
    rng = np.random.default_rng(seed)
    counts = presence.sum(axis=0)
    missing = np.where(counts > 0, np.maximum(np.round(fraction * counts), 1), 0)
    is_free = np.ones(len(presence), bool)
    for label in np.argsort(counts, kind="stable"):
        while missing[label] > 0:
            image = rng.choice(np.flatnonzero(is_free & presence[:, label]))
            is_free[image] = False
            missing -= presence[image]
    more = max(round(fraction * len(presence)), 1) - np.sum(~is_free)
    is_free[rng.choice(np.flatnonzero(is_free), max(more, 0), replace=False)] = False
    return np.flatnonzero(~is_free)


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ValueError(f"`fraction` must be in (0, 1]. Received: fraction={fraction}.")


def select(source: AnySource, indices: Sequence[int] | np.ndarray) -> AnySource:
    """A part of a source: its examples at the given positions, in that order."""
    positions = np.asarray(indices, np.int64)
    table = tf.constant(positions)
    return dataclasses.replace(
        source,
        num_examples=len(positions),
        read=lambda index: source.read(table[index]),
        describe=lambda index: source.describe(int(positions[index])),
    )
