"""Boxes and masks of COCO: one JSON file for all images."""

import json
from collections import defaultdict
from typing import Any

from pixpro_keras.data.sources.folder import find_folder
from pixpro_keras.detection.annotations import naming_file, source_of_files
from pixpro_keras.detection.box_source import COCO, BoxSource, Objects, make_objects


def open_coco_boxes(
    specification: str, path: str, split: str, data_dir: str | None = None
) -> BoxSource:
    """Opens COCO's boxes and masks.

    Args:
        specification: name of the source.
        path: path of a folder with `SPLIT/*.jpg` and `annotations/instances_SPLIT.json`.
        split: name of the split, such as `train2017`.
        data_dir: not used.

    Raises:
        ValueError: if something is missing or wrong, with the file.
    """
    del data_dir
    root = find_folder(path)
    file = root / "annotations" / f"instances_{split}.json"
    if not file.exists():
        raise ValueError(f"there is no {file}")
    with naming_file(file):
        content = json.loads(file.read_bytes())
        categories = sorted(content["categories"], key=lambda one: one["id"])
        images = content["images"]
        objects = _read_objects(images, content["annotations"], categories)
        paths = [root / split / image["file_name"] for image in images]
        sizes = [(image["height"], image["width"]) for image in images]
        ids = [image["id"] for image in images]
        class_names = [str(one["name"]) for one in categories]
        class_ids = [one["id"] for one in categories]
    return source_of_files(specification, paths, sizes, objects, class_names, ids, class_ids, COCO)


def _read_objects(images: list, annotations: list, categories: list) -> list[Objects]:
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
        in_image = by_image[image["id"]]
        boxes = [
            [x, y, x + width, y + height] for x, y, width, height in (a["bbox"] for a in in_image)
        ]
        segmentations = [a.get("segmentation") for a in in_image]
        objects.append(
            make_objects(
                f"image {image['file_name']}",
                (image["height"], image["width"]),
                boxes,
                [numbers[a["category_id"]] for a in in_image],
                [bool(a.get("iscrowd", 0)) for a in in_image],
                [a.get("area", a["bbox"][2] * a["bbox"][3]) for a in in_image],
                segmentations if all(segmentations) else None,
            )
        )
    return objects
