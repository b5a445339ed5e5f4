"""Images of TFRecord files, and random access to the records of any such files.

A TFRecord file is a chain of `length (8 bytes), crc of the length (4), data, crc of the data (4)`.
The headers are read once. Afterwards each record is a single read at a known position, so that the
order of the samples can be any function of the step.
"""

import concurrent.futures
import os
import re
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.data import python_ops
from pixpro_keras.data.sources.source import Source, to_label
from pixpro_keras.types import Tensor
from pixpro_keras.utils.fingerprint import fingerprint, sample

# Names of the classes 0, 1, ..., in the first record of a file: known before all labels are read.
CLASS_NAMES = "image/class/names"
INCOMPLETE = ".incomplete"  # End of a file's name while it is written.
_SHARD = re.compile(r"(.*)-\d+-of-(\d+)([^/]*)", re.DOTALL)
_LENGTH_BYTES, _CRC_BYTES = 8, 4
_HEADER_BYTES = _LENGTH_BYTES + _CRC_BYTES
_IMAGE, _LABEL = "image/encoded", "image/class/label"
_NUM_LOOKED_AT = 8  # Number of records whose features are checked.
_THREADS = 16  # Reading headers mostly waits for the disk or the network.


class RecordFiles:
    """Records of several TFRecord files, numbered consecutively.

    Args:
        files: paths, local or of a file system that TensorFlow knows (`gs://...`).
        spans: `(skip, take)` of each file's records; None takes all.

    Raises:
        ValueError: if a file is not a TFRecord file, or is damaged or truncated.

    Example:
        ```python
        import tempfile

        import tensorflow as tf
        from pixpro_keras.data.sources import RecordFiles

        with tempfile.TemporaryDirectory() as folder:
            with tf.io.TFRecordWriter(f"{folder}/a.tfrecord") as writer:
                writer.write(b"first")
                writer.write(b"second")
            assert RecordFiles([f"{folder}/a.tfrecord"]).read(1) == b"second"
        ```
    """

    def __init__(self, files: Sequence[str], spans: Sequence[tuple[int, int]] | None = None):
        self.files = list(files)
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            indexes = list(pool.map(_index, self.files))
        if spans is not None:
            indexes = [
                index[:, skip : skip + take]
                for index, (skip, take) in zip(indexes, spans, strict=True)
            ]
        self._firsts = [skip for skip, _ in spans] if spans else [0] * len(self.files)
        self._offsets, self._lengths = np.concatenate([np.zeros((2, 0), np.int64), *indexes], 1)
        counts = [index.shape[1] for index in indexes]
        self._owners = np.repeat(np.arange(len(self.files), dtype=np.int32), counts)

    def __len__(self) -> int:
        return len(self._offsets)

    def read(self, index: int) -> bytes:
        """Reads the data of a record."""
        file = self.files[self._owners[index]]
        offset, length = int(self._offsets[index]), int(self._lengths[index])
        if "://" in file:
            with tf.io.gfile.GFile(file, "rb") as remote:
                remote.seek(offset)
                return remote.read(length)
        descriptor = os.open(file, os.O_RDONLY)
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    def first_records(self) -> list[int]:
        """Numbers of the first record of each file that has records."""
        return np.unique(self._owners, return_index=True)[1].tolist()

    def fingerprint(self) -> str:
        """Checksum of the names of the files, and of place and length of each record."""
        names = (os.path.basename(file) for file in self.files)
        return fingerprint([*names, self._offsets.tobytes(), self._lengths.tobytes()])

    def describe(self, index: int) -> str:
        """Describes a record as `FILE record N`, where N counts the file's records from 0."""
        owner = int(self._owners[index])
        first = int(np.searchsorted(self._owners, owner))
        return f"{self.files[owner]} record {self._firsts[owner] + index - first}"


def open_tfrecord(specification: str, pattern: str, data_dir: str | None = None) -> Source:
    """Opens the images of TFRecord files.

    The labels are kept if all files name the same classes, or none names any. Otherwise they are dropped,
    since a number would mean different classes.

    Args:
        specification: name of the source.
        pattern: glob of the files' paths.
        data_dir: not used.

    Raises:
        ValueError: if there is no file or no record, a file is damaged, or files are of several packings
            or of a part of one.
    """
    del data_dir
    files = _find_files(pattern)
    records = RecordFiles(files)
    if not len(records):
        raise ValueError(f"the {len(files)} file(s) of {pattern} hold no record")
    has_labels = _check_features(records, pattern)
    named = _class_names(records)
    class_names = named[0] if len(named) == 1 else None
    if len(named) > 1:
        logging.warning("%s: its files have different classes; their labels are not used", pattern)
    features = {_IMAGE: tf.io.FixedLenFeature((), tf.string)}
    if has_labels and len(named) == 1:
        features[_LABEL] = tf.io.FixedLenFeature((), tf.int64, default_value=-1)

    def read(index: Tensor) -> dict[str, Tensor]:
        record = python_ops.read_record(records, index)
        example = tf.io.parse_single_example(record, features)
        return {"image": example[_IMAGE], "label": to_label(example.get(_LABEL, -1))}

    return Source(
        specification, len(records), read, records.describe, class_names, records.fingerprint()
    )


def _check_features(records: RecordFiles, pattern: str) -> bool:
    """Checks a few records for an image. Returns True unless they have labels that are no class numbers.

    Raises:
        ValueError: if none of those that can be parsed has an image, naming what they have.
    """
    examples = []
    for index in sample(len(records), _NUM_LOOKED_AT):
        try:
            example = tf.train.Example.FromString(records.read(index))
        except Exception:  # Protobuf's. Such a record counts as a broken image when it is read.
            continue
        examples.append((index, example.features.feature))
    if examples and not any(_IMAGE in features for _, features in examples):
        index, features = examples[0]
        raise ValueError(
            f"{records.describe(index)} has no {_IMAGE}, the encoded image, but "
            f"{', '.join(sorted(features)) or 'nothing'}"
        )
    labels = [features[_LABEL] for _, features in examples if _LABEL in features]
    has_labels = not labels or any(len(label.int64_list.value) == 1 for label in labels)
    if not has_labels:
        logging.warning("%s: the labels are not used, since they are no class numbers", pattern)
    return has_labels


def escape_pattern(path: str) -> str:
    """Escapes a path for `tf.io.gfile.glob`."""
    return re.sub(r"([\\*?\[\]{}])", r"\\\1", path)


def find_shards(prefix: str, ending: str = ".tfrecord") -> dict[str, list[str]]:
    """Finds files such as `PREFIX-00000-of-00016.tfrecord`, of one or several packings.

    Args:
        prefix: beginning of the paths.
        ending: end of the names.

    Returns:
        The files by the number of files that their names state, such as `00016`.
    """
    files = tf.io.gfile.glob(f"{escape_pattern(prefix)}-*-of-*{escape_pattern(ending)}")
    return _packings(sorted(files)).get((prefix, ending), {})


def _packings(files: Iterable[str]) -> dict[tuple[str, str], dict[str, list[str]]]:
    """Files by prefix and ending, then by the number of files that their names state."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for match in filter(None, map(_SHARD.fullmatch, files)):
        prefix, count, ending = match.groups()
        found.setdefault((prefix, ending), {}).setdefault(count, []).append(match.group())
    return found


def _find_files(pattern: str) -> list[str]:
    """Files that match a pattern, apart from those that were not written to their end.

    Raises:
        ValueError: if there is none, or there are files of several packings or of a part of one.
    """
    found = sorted(tf.io.gfile.glob(os.path.expanduser(pattern)))
    files = [file for file in found if not file.endswith(INCOMPLETE)]
    if not files:
        left = f" but {found[0]}, of an interrupted packing" if found else ""
        raise ValueError(f"no file matches {pattern}{left}")
    for (prefix, ending), packings in _packings(files).items():
        names = [f"{prefix}-*-of-{count}{ending}" for count in packings]
        if len(packings) > 1:
            raise ValueError(
                f"{' and '.join(names)} match it, which hold the same images if they were packed twice; "
                "remove those that are out of date, or choose one"
            )
        ((count, shards),) = packings.items()
        present = shards
        if len(shards) < int(count):
            # Files that are there, but do not match, are left out on purpose.
            present = find_shards(prefix, ending).get(count, [])
        if len(present) < int(count):
            raise ValueError(
                f"of the {int(count)} files {names[0]} only {len(present)} are there; the packing was "
                "interrupted, or not all were copied"
            )
    return files


def _class_names(records: RecordFiles) -> list[tuple[str, ...] | None]:
    """The different lists of classes in the files' first records; None for files without one."""
    feature = {CLASS_NAMES: tf.io.FixedLenSequenceFeature((), tf.string, allow_missing=True)}

    def read(index: int) -> tuple[str, ...] | None:
        try:
            example = tf.io.parse_single_example(records.read(index), feature)
        except (tf.errors.OpError, UnicodeDecodeError):
            return None  # It is reported as a broken image when it is read.
        return tuple(map(os.fsdecode, example[CLASS_NAMES].numpy().tolist())) or None

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        return list(dict.fromkeys(pool.map(read, records.first_records())))


def _index(file: str) -> np.ndarray:
    """Offset and length of each record's data: `(2, records)` int64."""
    begins: list[int] = []
    headers = bytearray()
    is_remote = "://" in file
    end = tf.io.gfile.stat(file).length
    position = 0
    with tf.io.gfile.GFile(file, "rb") if is_remote else open(file, "rb", buffering=0) as stream:
        while position < end:
            stream.seek(position)
            header = stream.read(_HEADER_BYTES)
            begin = position + _HEADER_BYTES
            length = int.from_bytes(header[:_LENGTH_BYTES], "little")
            position = begin + length + _CRC_BYTES
            if position > end:
                raise ValueError(
                    f"{file} is not a TFRecord file, or is truncated after record {len(begins)}"
                )
            begins.append(begin)
            headers += header
    table = np.frombuffer(headers, np.uint8).reshape(-1, _HEADER_BYTES)
    wrong = _masked_crc(table[:, :_LENGTH_BYTES]) != _as_integers(table[:, _LENGTH_BYTES:], "<u4")
    if wrong.any():
        raise ValueError(
            f"{file} is not a TFRecord file, or is damaged at record {int(wrong.argmax())}"
        )
    lengths = _as_integers(table[:, :_LENGTH_BYTES], "<i8")
    return np.stack([np.array(begins, np.int64), lengths])


def _as_integers(table: np.ndarray, kind: str) -> np.ndarray:
    return np.ascontiguousarray(table).view(kind)[:, 0]


def _masked_crc(rows: np.ndarray) -> np.ndarray:
    """TFRecord's checksum (CRC-32C, rotated, plus a constant) of each row of bytes."""
    table: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ (table & 1) * np.uint32(0x82F63B78)
    crc: np.ndarray = np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for column in rows.T:
        crc = table[(crc ^ column) & 0xFF] ^ (crc >> 8)
    crc = ~crc
    return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)
