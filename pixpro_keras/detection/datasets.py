"""Data sets with boxes: Pascal VOC and COCO on disk, TFDS, and the embedded scenes."""

import contextlib
import json
import os
import pathlib
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from typing import Any

import numpy as np
import tensorflow as tf

from pixpro_keras.data.sources import prepare_tfds, read_record, split_records
from pixpro_keras.detection import instance_masks
from pixpro_keras.detection.box_source import COCO, VOC07, VOC12, BoxSource, Objects, make_objects
from pixpro_keras.types import Tensor

_KINDS = "voc:PATH, coco:PATH, tfds:NAME[/config] or scenes"
_VOC = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
)


def open_boxes(spec: str, split: str, data_dir: str | None = None) -> BoxSource:
    """Opens the images and boxes of a split.

    Args:
        spec: `voc:PATH` (a folder that holds `VOC2007`, `VOC2012` or both, and `classes.txt` if its
            classes are not VOC's); `coco:PATH` (`PATH/SPLIT/*.jpg` and
            `PATH/annotations/instances_SPLIT.json`); `tfds:NAME[/config]` (a TFDS set with `objects`,
            such as voc or coco: boxes only); `scenes` (the embedded set).
        split: `2007_trainval,2012_trainval` of VOC, `train2017` of COCO, `train` and the like of TFDS
            and the scenes.
        data_dir: where TFDS keeps its data sets; None is TFDS's default.

    Raises:
        ValueError: if something is missing or wrong, with what was looked for.
    """
    kind, _, rest = spec.partition(":")
    if kind in ("voc", "coco") and rest:
        root = pathlib.Path(rest).expanduser()
        if not root.is_dir():
            raise ValueError(f"{root} is not a folder")
        return (_open_voc if kind == "voc" else _open_coco)(spec, root, split)
    if kind == "tfds" and rest:
        return _open_tfds(spec, prepare_tfds(rest, data_dir), split)
    if spec == "scenes":
        from pixpro_keras.data.scenes import scenes_dataset  # drawing code, for this source only

        return _open_tfds(spec, scenes_dataset.builder(data_dir), split)
    raise ValueError(f"the data set must be {_KINDS}. Received: {spec!r}")


def _open_files(spec, paths, sizes, objects, class_names, image_ids, class_ids, metric):
    """A source of image files."""
    if not paths:
        raise ValueError(f"{spec} holds no image of this split")
    for path in paths:
        if not os.path.exists(path):
            raise ValueError(f"the image {path} is missing")
    all_paths = [str(path) for path in paths]

    def read(index: Tensor) -> Tensor:
        return tf.io.read_file(tf.constant(all_paths)[index])

    return BoxSource(
        spec,
        read,
        all_paths.__getitem__,
        np.array(sizes, np.int32),
        objects,
        tuple(class_names),
        image_ids,
        class_ids,
        metric,
    )


def _open_voc(spec: str, root: pathlib.Path, split: str) -> BoxSource:
    names = _VOC.split()
    if (root / "classes.txt").exists():
        names = (root / "classes.txt").read_text().split()
    paths, sizes, objects, stems = [], [], [], []
    years = set()
    for part in split.split(","):
        year, _, name = part.partition("_")
        years.add(year)
        folder = root / f"VOC{year}"
        listing = folder / "ImageSets" / "Main" / f"{name}.txt"
        if not listing.exists():
            raise ValueError(f"of the split {part!r}, such as 2007_trainval, there is no {listing}")
        for stem in listing.read_text().split():
            annotation = folder / "Annotations" / f"{stem}.xml"
            size, found = _read_voc(annotation, names)
            paths.append(folder / "JPEGImages" / f"{stem}.jpg")
            sizes.append(size)
            objects.append(found)
            stems.append(stem)
    metric = VOC07 if years == {"2007"} else VOC12
    class_ids = range(1, len(names) + 1)
    return _open_files(spec, paths, sizes, objects, names, stems, class_ids, metric)


def _read_voc(path: pathlib.Path, names: list[str]) -> tuple[tuple[int, int], Objects]:
    if not path.exists():
        raise ValueError(f"the annotation {path} is missing")
    with _naming(path):
        tree = ElementTree.parse(path).getroot()
        height, width = (int(_text(tree, f"size/{side}")) for side in ("height", "width"))
        boxes, classes, difficult = [], [], []
        for one in tree.iter("object"):
            name = _text(one, "name")
            if name not in names:
                raise ValueError(f"the class {name!r} is none of {', '.join(names)}")
            corners = [float(_text(one, f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax")]
            # VOC counts pixels from 1, and the last one is inside.
            boxes.append([corners[0] - 1, corners[1] - 1, corners[2], corners[3]])
            classes.append(names.index(name))
            difficult.append(one.findtext("difficult", "0").strip() == "1")
    return (height, width), make_objects(str(path), (height, width), boxes, classes, difficult)


def _text(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"there is no {path}")
    return text.strip()


@contextlib.contextmanager
def _naming(path: pathlib.Path):
    """Puts the file's name before what is wrong with it, whatever that is."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path}: there is no {error}") from error
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    except (AttributeError, LookupError, OverflowError, RecursionError, TypeError) as error:
        raise ValueError(f"{path} is not laid out as it should be: {error}") from error


def _open_coco(spec: str, root: pathlib.Path, split: str) -> BoxSource:
    file = root / "annotations" / f"instances_{split}.json"
    if not file.exists():
        raise ValueError(f"there is no {file}")
    with _naming(file):
        content = json.loads(file.read_bytes())
        categories = sorted(content["categories"], key=lambda one: one["id"])
        images = content["images"]
        objects = _read_coco(images, content["annotations"], categories)
        paths = [root / split / image["file_name"] for image in images]
        sizes = [(image["height"], image["width"]) for image in images]
        ids = [image["id"] for image in images]
        class_names = [str(one["name"]) for one in categories]
        class_ids = [one["id"] for one in categories]
    return _open_files(spec, paths, sizes, objects, class_names, ids, class_ids, COCO)


def _read_coco(images: list, annotations: list, categories: list) -> list[Objects]:
    """Objects of each image; classes are numbered in the order of the categories."""
    numbers = {one["id"]: number for number, one in enumerate(categories)}
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for one in annotations:
        if one["category_id"] not in numbers:
            raise ValueError(
                f"annotation {one['id']} is of category {one['category_id']}, which is not in the list"
            )
        by_image[one["image_id"]].append(one)
    objects = []
    for image in images:
        found = by_image[image["id"]]
        boxes = [
            [x, y, x + width, y + height] for x, y, width, height in (a["bbox"] for a in found)
        ]
        segmentations = [a.get("segmentation") for a in found]
        objects.append(
            make_objects(
                f"image {image['file_name']}",
                (image["height"], image["width"]),
                boxes,
                [numbers[a["category_id"]] for a in found],
                [bool(a.get("iscrowd", 0)) for a in found],
                [a.get("area", a["bbox"][2] * a["bbox"][3]) for a in found],
                segmentations if all(segmentations) else None,
            )
        )
    return objects


def _open_tfds(spec: str, builder, split: str) -> BoxSource:
    import tensorflow_datasets as tfds

    features = builder.info.features
    if "objects" not in features or "bbox" not in features["objects"]:
        raise ValueError(f"TFDS data set {builder.name!r} has no boxes")
    records = split_records(builder, split)
    has_masks = "instance_mask" in features
    wanted = {name: features[name] for name in ("image", "objects")}
    if has_masks:
        wanted["instance_mask"] = features["instance_mask"]
    partial = tfds.features.FeaturesDict(wanted)
    decoders = {"image": tfds.decode.SkipDecoding()}

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def parse(record):
        example = partial.deserialize_example(record, decoders=decoders)
        size = tf.io.extract_jpeg_shape(example["image"])[:2]
        rest = {name: example[name] for name in wanted if name != "image"}
        return rest | {"size": size}

    sizes, objects = [], []
    is_voc = builder.name == "voc"
    for index in range(len(records)):
        example = tf.nest.map_structure(lambda x: x.numpy(), parse(records.read(index)))
        height, width = map(int, example["size"])
        found = example["objects"]
        # TFDS has shares of the image, `ymin, xmin, ymax, xmax`; those of VOC count pixels from 1.
        boxes = found["bbox"][:, [1, 0, 3, 2]] * np.array([width, height] * 2, np.float32)
        boxes -= np.array([1, 1, 0, 0], np.float32) * is_voc
        segmentations = None
        if has_masks:
            instances = example["instance_mask"][..., 0]
            segmentations = [instance_masks.to_rle(instances == n + 1) for n in range(len(boxes))]
        ignored = found["is_difficult" if is_voc else "is_crowd"]
        name = records.describe(index)
        objects.append(
            make_objects(
                name,
                (height, width),
                boxes,
                found["label"],
                ignored,
                found.get("area"),
                segmentations,
            )
        )
        sizes.append((height, width))

    def read(index: Tensor) -> Tensor:
        record = read_record(records, index)
        return partial.deserialize_example(record, decoders=decoders)["image"]

    class_names = tuple(features["objects"]["label"].names)
    is_2007 = "2007" in (builder.builder_config.name if builder.builder_config else "")
    return BoxSource(
        spec,
        read,
        records.describe,
        np.array(sizes, np.int32).reshape(-1, 2),
        objects,
        class_names,
        range(len(objects)),
        range(1, len(class_names) + 1),
        (VOC07 if is_2007 else VOC12) if is_voc else COCO,
    )
