"""Random access to the records of TFRecord files.

A TFRecord file is a chain of `length (8 bytes), crc of the length (4), data, crc of the data (4)`.
Its headers are read once; after that each record is one read at a known place, so that the order of
the samples can be any function of the step.
"""

import functools
import os
import struct
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_HEADER = struct.Struct("<QI")
_FOOTER_BYTES = 4


class RecordFiles:
    """The records of some TFRecord files, numbered through.

    Args:
        files: paths, local or of a file system that TensorFlow knows (`gs://...`).
        spans: `(skip, take)` of each file's records; None takes all.

    Raises:
        ValueError: if a file is no TFRecord file or is cut off.
    """

    def __init__(self, files: Sequence[str], spans: Sequence[tuple[int, int]] | None = None):
        self.files = list(files)
        offsets, lengths, owners = [], [], []
        for number, file in enumerate(self.files):
            begins, sizes = _index(file)
            if spans is not None:
                skip, take = spans[number]
                begins, sizes = begins[skip : skip + take], sizes[skip : skip + take]
            offsets.append(begins)
            lengths.append(sizes)
            owners.append(np.full(len(begins), number, np.int32))
        self._offsets = np.concatenate(offsets) if offsets else np.zeros(0, np.int64)
        self._lengths = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
        self._owners = np.concatenate(owners) if owners else np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self._offsets)

    def read(self, index: int) -> bytes:
        """The data of a record."""
        file = self.files[self._owners[index]]
        offset, length = int(self._offsets[index]), int(self._lengths[index])
        if "://" in file:
            with tf.io.gfile.GFile(file, "rb") as remote:
                remote.seek(offset)
                return remote.read(length)
        return os.pread(_descriptor(file), length, offset)

    def describe(self, index: int) -> str:
        """`FILE record N`, for messages."""
        owner = self._owners[index]
        first = int(np.searchsorted(self._owners, owner))
        return f"{self.files[owner]} record {index - first}"


@functools.lru_cache(maxsize=4096)
def _descriptor(file: str) -> int:
    """An open file; `os.pread` has no position, so that all threads share it."""
    return os.open(file, os.O_RDONLY)


def _index(file: str) -> tuple[np.ndarray, np.ndarray]:
    """Where each record's data begins, and how long it is."""
    begins, sizes = [], []
    end = tf.io.gfile.stat(file).length
    position = 0
    with tf.io.gfile.GFile(file, "rb") if "://" in file else open(file, "rb") as stream:
        while position < end:
            stream.seek(position)
            header = stream.read(_HEADER.size)
            data = position + _HEADER.size
            if len(header) < _HEADER.size:
                raise ValueError(f"{file} is cut off at byte {position}")
            (length, _) = _HEADER.unpack(header)
            position = data + length + _FOOTER_BYTES
            if position > end:
                raise ValueError(f"{file} is no TFRecord file, or is cut off after byte {data}")
            begins.append(data)
            sizes.append(length)
    return np.array(begins, np.int64), np.array(sizes, np.int64)
