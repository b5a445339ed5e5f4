"""Concatenation of several sources."""

import bisect
import itertools
from collections.abc import Sequence

import tensorflow as tf
from absl import logging

from pixpro_keras.data.sources.source import Source
from pixpro_keras.types import Tensor
from pixpro_keras.utils.fingerprint import fingerprint


def join(name: str, parts: Sequence[Source]) -> Source:
    """Joins several sources to one that has all their images.

    The labels are kept if all sources have the same classes. Otherwise they are dropped, since a number
    would mean different classes.

    Args:
        name: name of the whole.
        parts: at least one source.
    """
    ends = list(itertools.accumulate(part.num_examples for part in parts))
    begins = [0, *ends[:-1]]
    class_names = parts[0].class_names
    if any(part.class_names != class_names for part in parts):
        class_names = None
        logging.info(
            "%s: the data sets have different classes, so that their labels are dropped", name
        )

    def reader(part: Source, begin: int, index: Tensor):
        def read_part() -> dict[str, Tensor]:
            example = part.read(index - begin)
            label = example["label"] if class_names is not None else tf.constant(-1, tf.int32)
            return {"image": example["image"], "label": label}

        return read_part

    def read(index: Tensor) -> dict[str, Tensor]:
        index = tf.cast(index, tf.int64)
        number = tf.searchsorted(tf.constant(ends, tf.int64), index[None], side="right")[0]
        readers = [reader(part, begin, index) for part, begin in zip(parts, begins, strict=True)]
        return tf.switch_case(number, readers)

    def describe(index: int) -> str:
        number = bisect.bisect_right(ends, index)
        return parts[number].describe(index - begins[number])

    images = fingerprint(part.fingerprint for part in parts)
    contents = fingerprint(part.content_fingerprint for part in parts)
    return Source(name, ends[-1], read, describe, class_names, images, contents)
