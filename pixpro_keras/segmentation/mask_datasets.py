"""Data sets with masks: plain folders, Pascal VOC, Cityscapes, TFDS, embedded scenes."""

import numpy as np
import tensorflow as tf

from pixpro_keras.data.broken_images import require_size
from pixpro_keras.data.decoding import decode
from pixpro_keras.data.sources.specification import Openers
from pixpro_keras.data.sources.tfds import TFDSRecords, prepare_tfds
from pixpro_keras.segmentation.mask_files import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_IDS,
    open_cityscapes_masks,
    open_folder_masks,
    open_voc_masks,
)
from pixpro_keras.segmentation.mask_source import LabelValues, MaskSource, class_table
from pixpro_keras.types import IGNORED, Tensor
from pixpro_keras.utils.autotuning import NUM_THREADS, without_autotuning

# Names of image and mask in TFDS data sets.
_TFDS_FEATURES = (("image", "segmentation_mask"), ("image_left", "segmentation_label"))


def open_masks(
    specification: str,
    split: str,
    *,
    data_dir: str | None = None,
    values: LabelValues | None = None,
) -> MaskSource:
    """Opens the images and masks of a split.

    Args:
        specification: `folder:PATH` (`PATH/SPLIT/images/*.jpg`, `PATH/SPLIT/labels/*.png` of the same
            names, in the same subfolders, and `PATH/classes.txt` or `PATH/SPLIT/classes.txt` if the
            classes have names, one a line from number 0 on; where there is no `PATH/SPLIT`,
            `PATH/images` and `PATH/labels`); `voc:PATH` (a folder such as `VOCdevkit/VOC2012`, with
            `classes.txt` if its classes are others than VOC's); `cityscapes:PATH` (with `leftImg8bit` and
            `gtFine`); `tfds:NAME[/config]` (with the features `image` and `segmentation_mask`, or those of
            `cityscapes`); `scenes` (the embedded set).
        split: name of the split, such as `train` or `val`, or a slice of a TFDS split, `train[:10%]`.
        data_dir: folder in which TFDS keeps its data sets; None is TFDS's default.
        values: meaning of the values in the masks of `folder:` and `voc:`; None is one class for each
            value, and 255 for pixels that do not count.

    Raises:
        ValueError: if something is missing, or masks have values without a class; the message says
            what was expected.

    Example:
        ```python
        import pathlib
        import tempfile

        import tensorflow as tf
        from pixpro_keras.segmentation.mask_datasets import open_masks

        with tempfile.TemporaryDirectory() as folder:
            for name, channels in (("images", 3), ("labels", 1)):
                (pathlib.Path(folder) / name).mkdir()
                image = tf.io.encode_png(tf.ones((8, 8, channels), tf.uint8))
                (pathlib.Path(folder) / name / "one.png").write_bytes(image.numpy())
            source = open_masks(f"folder:{folder}", "train")
            assert source.class_names == ("class 0", "class 1")
        ```
    """
    kind, _ = _OPENERS.parse(specification)
    if kind in ("folder", "voc"):
        return _OPENERS.open(specification, split, values or LabelValues())
    if values not in (None, LabelValues()):
        raise ValueError("values of masks can be given for folder: and voc: only")
    return _OPENERS.open(specification, split, data_dir)


def _open_tfds(specification: str, name: str, split: str, data_dir: str | None) -> MaskSource:
    """Opens a TFDS data set; without a name, the embedded scenes."""
    import tensorflow_datasets as tfds

    builder = prepare_tfds(name or "scenes", data_dir)
    features: tfds.features.FeaturesDict = builder.info.features
    present = [names for names in _TFDS_FEATURES if set(names) <= set(features)]
    if not present:
        pairs = " or ".join(" and ".join(names) for names in _TFDS_FEATURES)
        raise ValueError(f"TFDS data set {builder.name!r} has no features {pairs}")
    image_name, mask_name = present[0]
    if features[mask_name].shape[-1] != 1:
        raise ValueError(
            f"TFDS data set {builder.name!r}: {mask_name} must have one channel, the class of each pixel. "
            f"Received: the shape {features[mask_name].shape}"
        )
    records = TFDSRecords(builder, split, present[0], keep_encoded=[image_name])
    if not len(records):
        raise ValueError(f"TFDS data set {builder.name!r} has no image in the split {split!r}")

    class_names: tuple[str, ...]
    if builder.name == "cityscapes":
        class_names, values = CITYSCAPES_CLASSES, np.array(CITYSCAPES_IDS)
    elif builder.name == "scenes":
        class_names = ("background", *features["label"].names)
        values = np.arange(len(class_names))
    else:
        class_names = _classes_in(records, mask_name, f"TFDS data set {builder.name!r}")
        values = np.arange(len(class_names))
    table = tf.constant(class_table(values))

    def read(index: Tensor) -> tuple[Tensor, Tensor]:
        example = records.read(index)
        mask = tf.gather(table, tf.cast(example[mask_name][..., 0], tf.int32))
        image = decode(example[image_name])
        return require_size(image, tf.shape(mask), "mask", records.files.describe, index), mask

    return MaskSource(
        specification,
        len(records),
        read,
        records.files.describe,
        class_names,
        fingerprint=records.files.fingerprint(),
    )


def _classes_in(records: TFDSRecords, mask_name: str, name: str) -> tuple[str, ...]:
    """Names of the classes up to the highest in the masks.

    Args:
        records: records with the masks, of which those that cannot be decoded do not count.
        mask_name: name of the masks.
        name: name of the data set, for errors.
    """

    def highest(index: Tensor) -> Tensor:
        mask = tf.cast(records.read(index)[mask_name], tf.int32)
        return tf.reduce_max(tf.where(mask == IGNORED, 0, mask))

    data = without_autotuning(tf.data.Dataset.range(len(records)))
    data = data.map(highest, NUM_THREADS).ignore_errors()
    last = int(max(data.as_numpy_iterator(), default=0))
    if not last:
        raise ValueError(
            f"{name}: all masks hold one class or none beside {IGNORED}, which is ignored, so nothing can "
            "be learned"
        )
    if last > IGNORED:
        raise ValueError(f"{name}: a mask has the value {last}, but classes must be in 0..254")
    return tuple(f"class {number}" for number in range(last + 1))


_OPENERS: Openers[MaskSource] = Openers(
    {
        "folder:PATH": open_folder_masks,
        "voc:PATH": open_voc_masks,
        "cityscapes:PATH": open_cityscapes_masks,
        "tfds:NAME[/config]": _open_tfds,
        "scenes": _open_tfds,
    }
)
