"""Labels of a source, and parts of it that keep the share of each class."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.data.broken_images import read_error
from pixpro_keras.data.sampler import NamedExamples
from pixpro_keras.data.sources.source import Source
from pixpro_keras.utils.autotuning import NUM_THREADS, without_autotuning

# A frozen dataclass with `num_examples`, `read` and `describe`: images with labels, or with masks.
AnySource = TypeVar("AnySource")
_MOST_COMPARED = 100_000


def read_labels(source: Source) -> np.ndarray:
    """Reads the labels of all images; no image is decoded.

    Args:
        source: source of the images.

    Returns:
        `(N,)` int32, -1 where there is no label.

    Raises:
        ValueError: if a record cannot be read, with its name.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data import Source, read_labels

        def read(index):
            return {"image": tf.constant(b""), "label": tf.cast(index % 2, tf.int32)}

        assert read_labels(Source("parity", 4, read, str)).tolist() == [0, 1, 0, 1]
        ```
    """
    data = without_autotuning(tf.data.Dataset.range(source.num_examples))
    data = data.map(
        lambda index: (index, source.read(index)["label"]),
        num_parallel_calls=NUM_THREADS,
        deterministic=True,
    )
    labels = np.zeros(source.num_examples, np.int32)
    is_read = np.zeros(source.num_examples, bool)
    for indices, read in data.ignore_errors().batch(4096).as_numpy_iterator():
        labels[indices], is_read[indices] = read, True
    if not is_read.all():
        first = int(is_read.argmin())
        raise ValueError(
            f"{source.describe(first)} has no label that can be read: {read_error(source, first)}"
        )
    return labels


def stratified_subset(
    labels: np.ndarray, fraction: float, seed: int = 0, num_left: int = 0
) -> np.ndarray:
    """Draws a fraction of the examples of each class, at least one.

    Args:
        labels: `(N,)`.
        fraction: fraction of each class, in (0, 1].
        seed: seed of the drawing.
        num_left: number of examples of each class that are never drawn.

    Returns:
        Indices in `labels`, ascending.

    Raises:
        ValueError: if the fraction is out of its range.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.data import stratified_subset

        labels = np.array([0] * 10 + [1] * 4)
        chosen = stratified_subset(labels, fraction=0.5)
        assert np.bincount(labels[chosen]).tolist() == [5, 2]
        ```
    """
    check_fraction(fraction)
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        count = min(max(round(fraction * len(of_class)), 1), max(len(of_class) - num_left, 0))
        chosen.append(rng.choice(of_class, count, replace=False))
    return np.sort(np.concatenate(chosen))


def check_fraction(fraction: float) -> None:
    """Checks a share of a data set.

    Args:
        fraction: the share.

    Raises:
        ValueError: if it is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"`fraction` must be in (0, 1]. Received: fraction={fraction}.")


def check_labels(source: Source, num_classes: int, num_tries: int = 16) -> None:
    """Checks a sample of a source's labels.

    Args:
        source: source of the images.
        num_classes: expected number of classes.
        num_tries: number of labels to check.

    Raises:
        ValueError: if there are none, or one is not in [0, num_classes).

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data import Source, check_labels

        def read(index):
            return {"image": tf.constant(b""), "label": tf.cast(index % 2, tf.int32)}

        check_labels(Source("parity", 4, read, str), num_classes=2)
        ```
    """
    for index in source.spread_indices(num_tries):
        label = int(source.read(tf.constant(index, tf.int64))["label"])
        if label < 0:
            raise ValueError(f"{source.describe(index)} has no label")
        if num_classes < 2:
            raise ValueError("the number of classes is not known; `num_classes` must be given")
        if label >= num_classes:
            raise ValueError(
                f"{source.describe(index)} has the label {label}, but there are {num_classes} classes"
            )


def warn_of_shared(train: NamedExamples, test: NamedExamples) -> None:
    """Warns of test images that are training images, by their names, in sets up to 100,000 images.

    Links to folders are followed.

    Args:
        train: training images.
        test: test images.

    Example:
        ```python
        from pixpro_keras.data import Source
        from pixpro_keras.data.labels import warn_of_shared

        train = Source("train", 4, lambda index: {}, "abcd".__getitem__)
        test = Source("test", 3, lambda index: {}, "xyd".__getitem__)
        warn_of_shared(train, test)  # logs: 1 of the 3 test images are training images, such as d
        ```
    """
    if train.num_examples > _MOST_COMPARED:
        return
    folders: dict[str, str] = {}

    def place(name: str) -> str:
        folder, file = os.path.split(name)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        return os.path.join(folders[folder], file)

    names = set(map(place, map(train.describe, range(train.num_examples))))
    shared = [name for name in map(test.describe, range(test.num_examples)) if place(name) in names]
    if shared:
        logging.warning(
            "%d of the %d test images are training images, such as %s",
            len(shared),
            test.num_examples,
            shared[0],
        )


def select(source: AnySource, indices: Sequence[int] | np.ndarray) -> AnySource:
    """Selects a part of a source: its examples at the given indices, in that order.

    Args:
        source: `Source` or `MaskSource`.
        indices: indices of the examples.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data import Source, select

        def read(index):
            return {"image": tf.constant(b""), "label": tf.cast(index, tf.int32)}

        part = select(Source("numbers", 9, read, str), [7, 2])
        assert int(part.read(tf.constant(0))["label"]) == 7
        ```
    """
    whole: Any = source
    chosen = np.asarray(indices, np.int64)
    table = tf.constant(chosen)
    return dataclasses.replace(
        whole,
        num_examples=len(chosen),
        read=lambda index: whole.read(table[index]),
        describe=lambda index: whole.describe(int(chosen[index])),
    )
