"""Encoded images of TFDS data sets, with random access to the records."""

import os
from collections.abc import Sequence

from absl import logging

from pixpro_keras.data import python_ops
from pixpro_keras.data.sources.source import Source, to_label
from pixpro_keras.data.sources.tfrecord import RecordFiles
from pixpro_keras.types import Tensor
from pixpro_keras.utils.errors import first_line


def prepare_tfds(name: str, data_dir: str | None = None):
    """Prepares a TFDS data set and returns its builder.

    Args:
        name: name of the data set in TFDS, `name/config` if it has several configurations; or
            `scenes`.
        data_dir: folder in which TFDS keeps its data sets; None is TFDS's default.

    Raises:
        ValueError: if there is no such data set or it cannot be prepared.

    Example:
        ```python
        from pixpro_keras.data.sources import prepare_tfds

        builder = prepare_tfds("scenes")
        print(builder.info.splits["train"].num_examples)
        ```
    """
    if name == "scenes":
        # Drawing code, needed for this set only.
        from pixpro_keras.data.scenes import scenes_dataset

        return scenes_dataset.builder(data_dir)

    import tensorflow_datasets as tfds  # Takes a second, so only for these sources.

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise ValueError(f"TFDS has no data set {name!r}: {first_line(error)}") from error
    try:
        builder.download_and_prepare()
    except Exception as error:  # TFDS passes on any error of its downloaders.
        raise ValueError(f"TFDS cannot prepare {name!r}: {first_line(error)}") from error
    return builder


class TFDSRecords:
    """Records of a split of a TFDS data set, of which only some features are parsed.

    Args:
        builder: prepared builder of the data set.
        split: name or slice of the split.
        features: names of the features to parse.
        keep_encoded: names of image features that stay encoded bytes.

    Raises:
        ValueError: if there is no such split.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.sources import TFDSRecords, prepare_tfds

        records = TFDSRecords(prepare_tfds("scenes"), "validation[:4]", ["image", "label"])
        print(len(records), records.read(tf.constant(0, tf.int64))["image"].shape)
        ```
    """

    def __init__(
        self, builder, split: str, features: Sequence[str], keep_encoded: Sequence[str] = ()
    ):
        import tensorflow_datasets as tfds

        try:
            info = builder.info.splits[split]
        except (KeyError, ValueError) as error:
            names = ", ".join(builder.info.splits)
            raise ValueError(f"{builder.name!r} has no split {split!r}, but {names}") from error
        instructions = info.file_instructions
        self.files = RecordFiles(
            [os.fspath(one.filename) for one in instructions],
            [(one.skip, one.take) for one in instructions],
        )
        self._features = tfds.features.FeaturesDict(
            {name: builder.info.features[name] for name in features}
        )
        self._decoders = {name: tfds.decode.SkipDecoding() for name in keep_encoded}

    def __len__(self) -> int:
        return len(self.files)

    def parse(self, record: Tensor) -> dict[str, Tensor]:
        """Features of a serialized record, a scalar string, in a graph or outside."""
        return self._features.deserialize_example(record, decoders=self._decoders)

    def read(self, index: Tensor) -> dict[str, Tensor]:
        """Features of a record by its number, in a graph."""
        return self.parse(python_ops.read_record(self.files, index))


def open_tfds(specification: str, rest: str, data_dir: str | None = None) -> Source:
    """Opens a split of a TFDS data set.

    Args:
        specification: name of the source.
        rest: `NAME[/config][:split]`; the split defaults to train.
        data_dir: folder in which TFDS keeps its data sets; None is TFDS's default.

    Raises:
        ValueError: if there is no such data set, split or image, or it cannot be prepared.
    """
    name, _, split = rest.partition(":")
    return from_builder(specification, prepare_tfds(name, data_dir), split or "train")


def check_image(builder) -> None:
    """Checks that a TFDS data set has one image in each example.

    Args:
        builder: builder of the data set.

    Raises:
        ValueError: if it has none, or several.

    Example:
        ```python
        from pixpro_keras.data.sources import prepare_tfds
        from pixpro_keras.data.sources.tfds import check_image

        check_image(prepare_tfds("scenes"))
        ```
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    if "image" not in features:
        raise ValueError(f"TFDS data set {builder.name!r} has no feature `image`")
    if not isinstance(features["image"], tfds.features.Image):
        kind = type(features["image"]).__name__
        raise ValueError(f"TFDS data set {builder.name!r}: `image` must be one image, not {kind}")


def _is_class(feature) -> bool:
    """True for a feature of one integer."""
    return feature.shape == () and (feature.tf_dtype.is_integer or feature.tf_dtype.is_bool)


def from_builder(specification: str, builder, split: str) -> Source:
    """Opens a split of a prepared TFDS builder; boxes and masks of other tasks are not parsed.

    Args:
        specification: name of the source.
        builder: prepared builder of the data set.
        split: name or slice of the split.

    Raises:
        ValueError: if there is no such split, or there are no images.
    """
    features = builder.info.features
    check_image(builder)
    has_label = "label" in features and _is_class(features["label"])
    if "label" in features and not has_label:
        logging.warning(
            "%s: the labels are not used, since they are no class numbers", specification
        )
    names = ["image", "label"] if has_label else ["image"]
    records = TFDSRecords(builder, split, names, keep_encoded=["image"])

    def read(index: Tensor) -> dict[str, Tensor]:
        example = records.read(index)
        return {"image": example["image"], "label": to_label(example.get("label", -1))}

    class_names = getattr(features["label"], "names", None) if has_label else None
    return Source(
        specification,
        len(records),
        read,
        records.files.describe,
        tuple(class_names) if class_names else None,
        records.files.fingerprint(),
    )
