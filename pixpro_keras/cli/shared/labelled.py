"""Labelled images that flags name."""

import contextlib
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame
from pixpro_keras.data.labels import read_labels
from pixpro_keras.data.sources import Source, open_source
from pixpro_keras.evaluation.features import Features, extract_features, image_batches
from pixpro_keras.types import Tensor


def open_labelled(flag: str) -> tuple[Source, np.ndarray]:
    """The source that a flag names, and its labels.

    Raises:
        FlagError: if it cannot be opened, or not all of its images have labels.
    """
    spec = FLAGS[flag].value
    if spec is None:
        raise FlagError(f"--{flag} must be given")
    with blame(flag):
        source = open_source(spec, data_dir=FLAGS.data_dir)
        labels = read_labels(source)
        missing = np.flatnonzero(labels < 0)
        if len(missing):
            raise ValueError(
                f"{len(missing)} of {source.num_examples} images have no label, such as "
                f"{source.describe(int(missing[0]))}; labels are a folder for each class"
            )
    return source, labels


def count_classes(train: Source, test: Source, *labels: np.ndarray) -> int:
    """Number of classes of two sources, from their labels.

    Raises:
        FlagError: if the two sets do not have the same classes.
    """
    if train.class_names != test.class_names:
        raise FlagError(
            f"{train.name} and {test.name} have other classes: the names of their folders differ"
        )
    return int(max(one.max() for one in labels)) + 1


def frozen_features(
    backbone: keras.Model,
    source: Source,
    preprocess: Callable[[Tensor], Tensor],
    batch_size: int = 64,
    strategy: tf.distribute.Strategy | None = None,
) -> Features:
    """Pooled features of all images of a source, at `--image_size`.

    Raises:
        FlagError: if an image cannot be decoded.
    """
    with blame_images(source.name):
        batches = image_batches(source, FLAGS.image_size, preprocess, batch_size)
        return extract_features(backbone, batches, strategy=strategy)


@contextlib.contextmanager
def blame_images(name: str) -> Iterator[None]:
    """Turns what TensorFlow says of a broken image into an error about the data set."""
    try:
        yield
    # What decoders of TensorFlow, and of Python under it, raise.
    except (tf.errors.InvalidArgumentError, tf.errors.UnknownError) as error:
        reason = error.message.splitlines()[0]
        raise FlagError(f"an image of {name} cannot be decoded: {reason}") from error


def image_shape(flag: str) -> tuple[int, int] | None:
    """Height and width that a list flag gives, or None.

    Raises:
        FlagError: if it does not give two positive numbers.
    """
    values = FLAGS[flag].value
    if not values:
        return None
    if len(values) != 2 or not all(value.isdecimal() and int(value) for value in values):
        raise FlagError(f"--{flag}={','.join(values)}: must be height,width in pixels")
    return int(values[0]), int(values[1])
