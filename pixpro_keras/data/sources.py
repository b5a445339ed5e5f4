"""Where images come from. Every source has random access, so that sample order needs no state."""

import array
import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from pixpro_keras.data.records import RecordFiles
from pixpro_keras.types import Tensor
from pixpro_keras.utils.errors import first_line

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_ENDINGS = tuple(extension.encode() for extension in IMAGE_EXTENSIONS)
_KINDS = "scenes[:SPLIT], folder:PATH, tfds:NAME[/config][:split] or tfrecord:GLOB, or several with + between"
# A plus sign is between two sources only where the next one begins; others belong to paths.
_BETWEEN = re.compile(r"\+(?=(?:scenes(?:[:+]|$)|folder:|tfds:|tfrecord:))")


@dataclasses.dataclass(frozen=True)
class Source:
    """Encoded images by number.

    Attributes:
        name: how the source was asked for.
        num_examples: number of images.
        read: in a graph, scalar int64 index to `{"image": encoded bytes, "label": int32}`; the
            label is -1 where there is none.
        describe: index to what a person would call the image: a path, or a file and a record.
        class_names: names of the labels, where they are known.
    """

    name: str
    num_examples: int
    read: Callable[[Tensor], dict[str, Tensor]]
    describe: Callable[[int], str]
    class_names: tuple[str, ...] | None = None


def split_spec(spec: str) -> list[str]:
    """The sources that a spec of `open_source` joins; one, if it joins none."""
    return _BETWEEN.split(spec)


def open_source(spec: str, *, data_dir: str | None = None) -> Source:
    """Opens a source.

    Args:
        spec: `scenes` or `scenes:SPLIT` (the embedded set); `folder:PATH` (jpg, jpeg, png, webp and
            bmp files at any depth); `tfds:NAME[/config][:split]` (the split defaults to train and
            may be a slice, `train[:10%]`); `tfrecord:GLOB` (records with `image/encoded` and, if
            there are labels, `image/class/label`). Several with `+` between are joined:
            `folder:photos+folder:drawings`.
        data_dir: where TFDS keeps its data sets; None is TFDS's default.

    Raises:
        ValueError: if there is nothing to read, with a line that says what was looked for.
    """
    specs = split_spec(spec)
    if len(specs) > 1:
        from pixpro_keras.data.joined import join  # which builds on this module

        return join(spec, [open_source(one, data_dir=data_dir) for one in specs])
    kind, _, rest = spec.partition(":")
    if kind == "scenes":
        return _open_scenes(spec, rest or "train", data_dir)
    if kind == "folder" and rest:
        return _open_folder(spec, rest)
    if kind == "tfds" and rest:
        name, _, split = rest.partition(":")
        return _open_tfds(spec, name, split or "train", data_dir)
    if kind == "tfrecord" and rest:
        return _open_tfrecord(spec, rest)
    raise ValueError(f"the data set must be {_KINDS}. Received: {spec!r}")


def check_labels(source: Source, num_classes: int, num_tries: int = 16) -> None:
    """Looks at some labels spread over a source.

    Args:
        source: the images.
        num_classes: as many as there should be.
        num_tries: labels that are looked at.

    Raises:
        ValueError: if there are none, or one is not in [0, num_classes).
    """
    indices = np.unique(np.linspace(0, source.num_examples - 1, num_tries).astype(np.int64))
    for index in indices:
        label = int(source.read(tf.constant(index))["label"])
        if label < 0:
            raise ValueError(f"{source.describe(int(index))} has no label")
        if num_classes < 2:
            raise ValueError("the number of classes is not known; --num_classes says it")
        if label >= num_classes:
            raise ValueError(
                f"{source.describe(int(index))} has the label {label}, but there are {num_classes} classes"
            )


def iterate_images(folder: bytes, inside: bytes = b"") -> Iterator[bytes]:
    """Paths of all images below a folder, relative to it, in byte order.

    The tree is walked once, and only one branch of it is in memory at a time. Links to folders are
    followed, except back to a folder that holds them.

    Args:
        folder: where to begin.
        inside: path of the part to walk, relative to `folder`; empty or with a slash at its end.
    """
    found = []
    with os.scandir(os.path.join(folder, inside)) as entries:
        for entry in entries:
            if entry.is_dir():
                if not (entry.is_symlink() and _is_above(entry.path)):
                    # With the slash, the order within a folder is that of the whole paths.
                    found.append(inside + entry.name + b"/")
            elif entry.name.lower().endswith(_ENDINGS):
                found.append(inside + entry.name)
    for path in sorted(found):
        if path.endswith(b"/"):
            yield from iterate_images(folder, path)
        else:
            yield path


def class_numbers(folders: Iterable[bytes]) -> dict[bytes, int]:
    """Class of each folder that holds images: its place in byte order.

    That is the usual layout of labelled images, one folder per class and nothing beside them. Where
    folders lie in each other or images beside them, there are no classes, and the result is empty.
    """
    names = sorted(set(folders))
    if not all(name and b"/" not in name for name in names):
        return {}
    return {name: number for number, name in enumerate(names)}


def _is_above(link: bytes) -> bool:
    """Whether a link leads to a folder that holds it."""
    target, place = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    return os.path.commonpath([target, place]) == target


def _open_folder(spec: str, folder: str) -> Source:
    root = os.fsencode(os.path.expanduser(folder))
    if not os.path.isdir(root):
        raise ValueError(f"{folder} is not a folder")
    # Millions of paths are one string and their ends, not millions of objects.
    paths, ends, owners = bytearray(), array.array("q", [0]), array.array("i")
    parents: dict[bytes, int] = {}
    try:
        for path in iterate_images(root):
            paths += path
            ends.append(len(paths))
            owners.append(parents.setdefault(os.path.dirname(path), len(parents)))
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error}") from error
    if not owners:
        raise ValueError(f"{folder} holds no image ({', '.join(IMAGE_EXTENSIONS)}) at any depth")
    numbers = class_numbers(parents)
    labels = np.array([numbers.get(parent, -1) for parent in parents], np.int32)
    all_paths, all_ends = tf.constant(bytes(paths)), tf.constant(np.frombuffer(ends, np.int64))
    all_labels = tf.constant(labels[np.frombuffer(owners, np.int32)])
    prefix = os.path.join(root, b"")

    def read(index: Tensor) -> dict[str, Tensor]:
        begin, end = all_ends[index], all_ends[index + 1]
        path = prefix + tf.strings.substr(all_paths, begin, end - begin)
        return {"image": tf.io.read_file(path), "label": all_labels[index]}

    def describe(index: int) -> str:
        return os.fsdecode(prefix + bytes(paths[ends[index] : ends[index + 1]]))

    class_names = tuple(os.fsdecode(name) for name in numbers) or None
    return Source(spec, len(owners), read, describe, class_names)


def _open_records(
    spec: str,
    records: RecordFiles,
    parse: Callable[[Tensor], dict[str, Tensor]],
    class_names: tuple[str, ...] | None = None,
) -> Source:
    def read(index: Tensor) -> dict[str, Tensor]:
        return parse(read_record(records, index))

    return Source(spec, len(records), read, records.describe, class_names)


def _open_tfrecord(spec: str, pattern: str) -> Source:
    files = sorted(tf.io.gfile.glob(os.path.expanduser(pattern)))
    if not files:
        raise ValueError(f"no file matches {pattern}")
    records = RecordFiles(files)
    if not len(records):
        raise ValueError(f"the {len(files)} file(s) of {pattern} hold no record")
    features = {
        "image/encoded": tf.io.FixedLenFeature((), tf.string),
        "image/class/label": tf.io.FixedLenFeature((), tf.int64, default_value=-1),
    }

    def parse(record: Tensor) -> dict[str, Tensor]:
        example = tf.io.parse_single_example(record, features)
        label = tf.cast(example["image/class/label"], tf.int32)
        return {"image": example["image/encoded"], "label": label}

    return _open_records(spec, records, parse)


def _open_scenes(spec: str, split: str, data_dir: str | None) -> Source:
    from pixpro_keras.data.scenes import scenes_dataset  # drawing code, for this source only

    return _from_builder(spec, scenes_dataset.builder(data_dir), split)


def _open_tfds(spec: str, name: str, split: str, data_dir: str | None) -> Source:
    return _from_builder(spec, prepare_tfds(name, data_dir), split)


def prepare_tfds(name: str, data_dir: str | None = None):
    """The builder of a TFDS data set, prepared.

    Args:
        name: TFDS's name of it, with a configuration if it has several: `name/config`.
        data_dir: where TFDS keeps its data sets; None is TFDS's default.

    Raises:
        ValueError: if there is no such data set or it cannot be prepared.
    """
    import tensorflow_datasets as tfds  # a second of start-up, for this source only

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise ValueError(f"TFDS has no data set {name!r}: {first_line(error)}") from error
    try:
        builder.download_and_prepare()
    except Exception as error:  # TFDS raises whatever its downloaders raise
        raise ValueError(f"TFDS cannot prepare {name!r}: {first_line(error)}") from error
    return builder


def split_records(builder, split: str) -> RecordFiles:
    """The records of a split of a prepared TFDS builder.

    Raises:
        ValueError: if there is no such split.
    """
    try:
        info = builder.info.splits[split]
    except (KeyError, ValueError) as error:
        names = ", ".join(builder.info.splits)
        raise ValueError(f"{builder.name!r} has no split {split!r}, but {names}") from error
    instructions = info.file_instructions
    return RecordFiles(
        [os.fspath(one.filename) for one in instructions],
        [(one.skip, one.take) for one in instructions],
    )


def read_record(records: RecordFiles, index: Tensor) -> Tensor:
    """A record in a graph, by its number: scalar string."""
    # Python, for some 20 us per image; it does not hold its lock while it reads.
    record = tf.numpy_function(records.read, [index], tf.string, stateful=False)
    return tf.ensure_shape(record, ())


def _from_builder(spec: str, builder, split: str) -> Source:
    """The examples of a prepared TFDS builder, read from its TFRecord files, images undecoded."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    if "image" not in features:
        raise ValueError(f"TFDS data set {builder.name!r} has no feature `image`")
    records = split_records(builder, split)
    has_label = "label" in features
    wanted = {"image": features["image"]} | ({"label": features["label"]} if has_label else {})
    # Boxes and masks of other tasks are not parsed.
    partial = tfds.features.FeaturesDict(wanted)
    decoders = {"image": tfds.decode.SkipDecoding()}

    def parse(record: Tensor) -> dict[str, Tensor]:
        example = partial.deserialize_example(record, decoders=decoders)
        label = tf.cast(example["label"], tf.int32) if has_label else tf.constant(-1, tf.int32)
        return {"image": example["image"], "label": label}

    class_names = getattr(features["label"], "names", None) if has_label else None
    return _open_records(spec, records, parse, tuple(class_names) if class_names else None)
