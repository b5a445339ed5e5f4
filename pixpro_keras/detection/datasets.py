"""Data sets with boxes: Pascal VOC and COCO on disk, TFDS, and the embedded scenes."""

import io
from typing import Any

import numpy as np
import tensorflow as tf

from pixpro_keras.data.decoding import header_orientation, upright_size
from pixpro_keras.data.sources.specification import Openers
from pixpro_keras.data.sources.tfds import TFDSRecords, check_image, prepare_tfds
from pixpro_keras.detection import instance_masks
from pixpro_keras.detection.box_source import COCO, VOC07, VOC12, BoxSource
from pixpro_keras.detection.coco_annotations import is_flat_coco, open_coco_boxes
from pixpro_keras.detection.notes import Notes
from pixpro_keras.detection.objects import Objects, make_objects
from pixpro_keras.detection.voc_annotations import is_flat_voc, open_voc_boxes
from pixpro_keras.types import Tensor

# Width and height of an image that cannot be decoded, which is passed over when it is read.
_UNKNOWN_SIZE = 1000, 1000


def open_boxes(
    specification: str, split: str, *, data_dir: str | None = None, clip_boxes: bool = False
) -> BoxSource:
    """Opens the images and boxes of a split.

    Invalid files raise an error; ignored annotations are counted in the source's `notes`, which
    `for_training` and `for_testing` log.

    Args:
        specification: `voc:PATH` (a folder that holds `VOC2007`, `VOC2012` or both, and `classes.txt` if
            its classes are not VOC's; or CVAT's export of this layout); `coco:PATH` (`PATH/SPLIT/*.jpg` and
            `PATH/annotations/instances_SPLIT.json`, or the exports of CVAT and Roboflow);
            `tfds:NAME[/config]` (a TFDS set with `objects`, such as voc or coco: boxes only); `scenes`
            (the embedded set).
        split: `2007_trainval,2012_trainval` for VOC, `train2017` for COCO, `train` and similar for
            TFDS and the scenes; `WHOLE` for a folder without splits.
        data_dir: folder in which TFDS keeps its data sets; None is TFDS's default.
        clip_boxes: whether boxes that are far or mostly outside of their image are clipped instead
            of raising an error.

    Raises:
        ValueError: if something is missing or wrong; the message says what was expected.

    Example:
        ```python
        import json
        import pathlib
        import tempfile

        import tensorflow as tf
        from pixpro_keras.detection.datasets import open_boxes

        content = {
            "images": [{"id": 1, "file_name": "a.jpg", "height": 8, "width": 8}],
            "categories": [{"id": 3, "name": "cat"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 4, 5]}],
        }
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "train2017").mkdir()
            (root / "annotations").mkdir()
            image = tf.io.encode_jpeg(tf.zeros((8, 8, 3), tf.uint8))
            (root / "train2017" / "a.jpg").write_bytes(image.numpy())
            (root / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
            source = open_boxes(f"coco:{folder}", "train2017")
        assert source.objects[0].boxes.tolist() == [[1, 2, 5, 7]]
        ```
    """
    return _OPENERS.open(specification, split, data_dir, clip_boxes)


def is_flat(specification: str, *splits: str) -> bool:
    """Tells if a data set is a folder without splits, which `open_boxes` opens as `WHOLE`.

    Args:
        specification: as for `open_boxes`.
        *splits: names of splits that would make it none.

    Example:
        ```python
        from pixpro_keras.detection.datasets import is_flat

        assert not is_flat("scenes", "train", "validation")
        ```
    """
    kind, _, path = specification.partition(":")
    if kind == "coco":
        return is_flat_coco(path, *splits)
    return kind == "voc" and is_flat_voc(path)


def _open_tfds(
    specification: str, name: str, split: str, data_dir: str | None, clip_boxes: bool
) -> BoxSource:
    """Opens a TFDS data set; without a name, the embedded scenes."""
    builder = prepare_tfds(name or "scenes", data_dir)
    features = builder.info.features
    check_image(builder)
    if "objects" not in features or not all(x in features["objects"] for x in ("bbox", "label")):
        raise ValueError(f"TFDS data set {builder.name!r} has no `objects` with `bbox` and `label`")
    class_names = getattr(features["objects"]["label"], "names", None)
    if not class_names:
        raise ValueError(f"TFDS data set {builder.name!r}: the labels of its objects have no names")
    names = ["image", "objects", *(["instance_mask"] if "instance_mask" in features else [])]
    records = TFDSRecords(builder, split, names, keep_encoded=["image"])

    parse = tf.function(records.parse, input_signature=[tf.TensorSpec((), tf.string)])
    notes = Notes()
    sizes, objects = [], []
    is_voc = builder.name == "voc"
    for index in range(len(records)):
        example = tf.nest.map_structure(lambda x: x.numpy(), parse(records.files.read(index)))
        name = records.files.describe(index)
        size, in_image = _read_example(name, example, is_voc, clip_boxes, notes)
        sizes.append(size)
        objects.append(in_image)

    def read(index: Tensor) -> Tensor:
        return records.read(index)["image"]

    is_2007 = "2007" in (builder.builder_config.name if builder.builder_config else "")
    return BoxSource(
        specification,
        read,
        records.files.describe,
        np.array(sizes, np.int32).reshape(-1, 2),
        objects,
        tuple(class_names),
        range(len(objects)),
        range(1, len(class_names) + 1),
        (VOC07 if is_2007 else VOC12) if is_voc else COCO,
        notes,
        records.files.fingerprint(),
    )


def _read_example(
    name: str, example: dict[str, Any], is_voc: bool, clip_boxes: bool, notes: Notes
) -> tuple[tuple[int, int], Objects]:
    """Height and width of an upright image, and its objects."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(example["image"])) as image:
            width, height = upright_size(image)
            is_turned = header_orientation(image) > 1
    except (OSError, ValueError, SyntaxError):
        (width, height), is_turned = _UNKNOWN_SIZE, False
    if is_turned and len(example["objects"]["bbox"]):
        # Shares of an image do not tell of which, unlike the sizes in annotation files.
        notes.add(
            "images with an EXIF orientation, whose boxes are read as of the upright image", name
        )
    objects = example["objects"]
    if (objects["label"] < 0).any():
        raise ValueError(f"{name}: an object has no class")
    # TFDS has shares of the image, `ymin, xmin, ymax, xmax`; those of VOC count pixels from 1.
    boxes = objects["bbox"][:, [1, 0, 3, 2]] * np.array([width, height] * 2, np.float32)
    boxes -= np.array([1, 1, 0, 0], np.float32) * is_voc
    segmentations = None
    if "instance_mask" in example:
        instances = example["instance_mask"][..., 0]
        segmentations = [instance_masks.to_rle(instances == n + 1) for n in range(len(boxes))]
    return (height, width), make_objects(
        name,
        (height, width),
        boxes,
        objects["label"],
        objects.get("is_difficult" if is_voc else "is_crowd", np.zeros(len(boxes), bool)),
        objects.get("area"),
        segmentations,
        clip_boxes=clip_boxes,
        notes=notes,
    )


_OPENERS: Openers[BoxSource] = Openers(
    {
        "voc:PATH": open_voc_boxes,
        "coco:PATH": open_coco_boxes,
        "tfds:NAME[/config]": _open_tfds,
        "scenes": _open_tfds,
    }
)
