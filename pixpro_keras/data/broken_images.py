"""Handling of images that cannot be decoded."""

import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.data import python_ops
from pixpro_keras.data.decoding import decode
from pixpro_keras.data.sampler import CANDIDATES
from pixpro_keras.data.sources.source import Source
from pixpro_keras.types import Tensor
from pixpro_keras.utils.autotuning import without_autotuning
from pixpro_keras.utils.errors import UserError, first_line

# Parts of error messages about wrong masks or annotations of readable images.
NO_CLASS = "for which there is no class"
OTHER_SIZE = "differ in size"
BatchT = TypeVar("BatchT")


class AnySource(Protocol):
    """Images by number, encoded or decoded."""

    @property
    def name(self) -> str:
        """Specification that opened the source."""

    @property
    def num_examples(self) -> int:
        """Number of images."""

    @property
    def fingerprint(self) -> str:
        """Checksum that differs if the images' names or records do; empty where it is not known."""

    @property
    def content_fingerprint(self) -> str:
        """Checksum that differs if their files do; empty where it is not known, or not another one."""

    @property
    def read(self) -> Callable[[Tensor], Any]:
        """Index to an example."""

    @property
    def describe(self) -> Callable[[int], str]:
        """Index to name."""


class BrokenImagesError(UserError, RuntimeError):
    """Too many images of a source cannot be decoded."""


class WrongValueError(UserError, ValueError):
    """A mask has a value without a class, or an image differs in size from its annotation."""


class BrokenImages:
    """Count of images that cannot be decoded; the log names each of them once.

    Args:
        source: source of the images.
        max_share: share of the source's images above which `check` raises.

    Example:
        ```python
        from pixpro_keras.data import BrokenImages, Source

        source = Source("ten", 10, lambda index: {"image": b"no image"}, str)
        broken = BrokenImages(source, max_share=0.2)
        broken.report(3, is_last=False)
        broken.check()
        assert broken.names == {3: "3"}
        ```
    """

    def __init__(self, source: AnySource, max_share: float):
        self._source = source
        self._max_share = max_share
        self._lock = threading.Lock()
        self._is_hopeless = False
        self._wrong_value = ""
        self.names: dict[int, str] = {}

    def report(self, index: int, is_last: bool) -> None:
        """Counts an image that cannot be decoded.

        Args:
            index: index of the image in the source.
            is_last: whether it was the last candidate for its place in the batch.
        """
        if index not in self.names:
            reason = read_error(self._source, index)
        with self._lock:
            self._is_hopeless |= bool(is_last)
            if index not in self.names:
                if NO_CLASS in reason or OTHER_SIZE in reason:
                    self._wrong_value = reason
                    return
                self.names[index] = self._source.describe(index)
                logging.warning("skipped, cannot be decoded: %s", self.names[index])

    def watch(
        self,
        batches: Iterable[BatchT],
        indices: Callable[[BatchT], np.ndarray],
        numbers: Sequence[int] | None = None,
    ) -> Iterator[BatchT]:
        """Iterates over batches without the broken images, and reports each missing image.

        Args:
            batches: batches of the source's images in their order.
            indices: function of a batch to the indices of its images.
            numbers: indices of the images that the batches should hold, ascending; None: all of the source's.

        Raises:
            BrokenImagesError: once too many are missing.
            WrongValueError: if the mask or annotation of a readable image is wrong.
        """
        expected = iter(range(self._source.num_examples) if numbers is None else numbers)
        for batch in batches:
            for index in indices(batch).tolist():
                self._report_missing(itertools.takewhile(index.__ne__, expected))
            yield batch
        self._report_missing(expected)

    def _report_missing(self, indices: Iterable[int]) -> None:
        missing = list(indices)
        for index in missing:
            self.report(index, is_last=False)
        if missing:
            self.check()

    def check(self) -> None:
        """Checks the count; called at every step.

        Raises:
            BrokenImagesError: if too many images are broken.
            WrongValueError: if the mask or annotation of a readable image is wrong.
        """
        if self._wrong_value:
            raise WrongValueError(self._wrong_value)
        allowed = self._max_share * self._source.num_examples
        if self._max_share > 0:
            allowed = max(allowed, 1)  # A hundredth of a small set is less than one image.
        with self._lock:
            names = list(self.names.values())
        if len(names) > allowed:
            why = f"more than max_broken_share={self._max_share:g} allows"
        elif self._is_hopeless:
            why = f"{CANDIDATES} of them in a row"
        elif len(names) == self._source.num_examples:
            why = "so that none is left"
        else:
            return
        raise BrokenImagesError(
            f"{len(names)} of the {self._source.num_examples} images of {self._source.name} "
            f"cannot be decoded so far, {why}: {', '.join(names[:5])}"
        )


def read_error(source: AnySource, index: int) -> str:
    """Reads an image and returns the error message in one line; empty if there is no error.

    Args:
        source: images, encoded or decoded.
        index: index of the image.
    """
    try:
        example = source.read(tf.constant(index, tf.int64))
        if isinstance(example, dict):
            decode(example["image"])
    # TensorFlow's message may quote bytes; the others come from the Python decoder of masks.
    except (tf.errors.OpError, UnicodeDecodeError, OSError, SyntaxError, ValueError) as error:
        return first_reason(error)
    return ""


def require_size(
    image: Tensor, size: Tensor, what: str, describe: Callable[[int], str], index: Tensor
) -> Tensor:
    """Returns an image, after checking its size in the graph.

    Args:
        image: `(H, W, 3)`.
        size: expected height and width, `(2,)` int32.
        what: name of the object with this size, such as `mask`.
        describe: index to a readable name.
        index: index of the image, scalar int64.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.broken_images import require_size

        image = tf.zeros((8, 6, 3), tf.uint8)
        image = require_size(image, tf.constant([8, 6]), "mask", str, tf.constant(0))
        ```
    """
    found = tf.shape(image)[:2]
    same = tf.reduce_all(tf.equal(found, size))

    def complaint() -> Tensor:
        name = python_ops.describe(describe, index)
        sizes = [
            tf.strings.reduce_join(tf.strings.as_string(one), separator=" x ")
            for one in (found, size)
        ]
        parts = [name, f": image and {what} {OTHER_SIZE}, height and width of "]
        return tf.strings.join([*parts, sizes[0], " and ", sizes[1], " pixels"])

    message = tf.cond(same, lambda: "", complaint)
    with tf.control_dependencies([tf.debugging.Assert(same, [message])]):
        return tf.identity(image)


def first_broken(source: AnySource) -> int | None:
    """Index of the first image that cannot be read; None if there is none."""
    return next((i for i in range(source.num_examples) if read_error(source, i)), None)


def first_reason(error: Exception) -> str:
    """Reason in one line: the message of a failed assertion in a graph, else `first_line`."""
    message = str(getattr(error, "message", error))
    # In graphs and in eager mode.
    asserted = re.search(r"assertion failed: \[(.*)\]|Summarized data: b(['\"])(.*)\2", message)
    if asserted:
        return asserted[1] or asserted[3]
    return first_line(error)


def decode_some(source: Source, count: int) -> Iterator[Tensor]:
    """Decodes up to `count` images, spread over a source, one at a time; broken ones are left out.

    Args:
        source: source of the images.
        count: largest number of images to try.

    Yields:
        `(H, W, 3)` uint8.
    """
    for index in source.spread_indices(count):
        try:
            yield decode(source.read(tf.constant(index, tf.int64))["image"])
        except (tf.errors.OpError, UnicodeDecodeError):  # TensorFlow's message may quote bytes.
            continue


def first_readable(
    read: Callable[[Tensor], tuple[Tensor, Tensor]],
    candidate: Callable[[Tensor], Tensor],
    report: Callable[[int, bool], None] | None,
) -> tuple[Tensor, Tensor]:
    """Reads the first candidate that can be decoded; the others are reported.

    An error in a graph ends the data set, except under `ignore_errors`. So the candidates are a data set
    of their own, whose first readable element is taken. Without `report` the graph needs no Python, and
    other processes can run it.

    Args:
        read: index to an example, such as image and label.
        candidate: number of an attempt to the index of an image.
        report: function of the index of a broken image, and of whether it was the last candidate.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.broken_images import first_readable

        def read(index):
            with tf.control_dependencies([tf.debugging.Assert(index > 2, ["broken"])]):
                return tf.identity(index), index

        data = tf.data.Dataset.range(1).map(lambda _: first_readable(read, lambda n: n + 1, None))
        assert next(data.as_numpy_iterator())[0] == 3
        ```
    """

    def attempt(number: Tensor) -> tuple[Tensor, Tensor]:
        last = tf.constant(-1, tf.int64)
        if report is not None:
            last = tf.cond(
                number > 0,
                lambda: python_ops.report_unreadable(
                    report, candidate(number - 1), tf.equal(number, CANDIDATES)
                ),
                lambda: tf.constant(-1, tf.int64),
            )
        with tf.control_dependencies([last]):  # Otherwise an error below would cancel the report.
            return read(candidate(tf.identity(number)))

    # One number more than there are candidates, so that the last one's failure is reported too.
    attempts = tf.data.Dataset.range(CANDIDATES + (report is not None))
    # Runs in the calling thread, which is idle.
    attempts = attempts.map(attempt, synchronous=True).ignore_errors()
    return without_autotuning(attempts.take(1)).get_single_element()
