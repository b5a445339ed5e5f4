"""Boxes and masks of COCO: one JSON file for all images."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from pixpro_keras.data.sources.folder import find_folder
from pixpro_keras.detection.annotations import (
    WHOLE,
    check_images,
    check_units,
    is_number,
    naming,
    note_unlisted,
    read_flag,
    read_size,
    source_of_files,
)
from pixpro_keras.detection.box_source import COCO, BoxSource
from pixpro_keras.detection.layouts import conversion_hint
from pixpro_keras.detection.notes import Notes
from pixpro_keras.detection.objects import Objects, make_objects


@dataclasses.dataclass(frozen=True)
class _Image:
    """Entry of `images`."""

    id: int | str
    file_name: str
    size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class _Annotation:
    """Entry of `annotations`."""

    name: str
    box: tuple[float, float, float, float]  # x, y, width, height
    class_number: int
    is_crowd: bool
    area: float
    segmentation: Any


def open_coco_boxes(
    specification: str,
    path: str,
    split: str,
    data_dir: str | None = None,
    clip_boxes: bool = False,
) -> BoxSource:
    """Opens COCO's boxes and masks.

    Args:
        specification: name of the source.
        path: path of a folder with `SPLIT/*.jpg` and `annotations/instances_SPLIT.json`; or as CVAT
            exports, with `images/*.jpg` and the same file; or as Roboflow does, with `SPLIT/*.jpg` and
            `SPLIT/_annotations.coco.json`.
        split: name of the split, such as `train2017`; `WHOLE`: all images of a folder with one such
            file, in it or in `annotations/`; see `is_flat_coco`.
        data_dir: not used.
        clip_boxes: whether boxes that are far or mostly outside of their image are cut off.

    Raises:
        ValueError: if something is missing or wrong, with the file and the annotation.
    """
    del data_dir
    root = find_folder(path)
    file, folders = _find_files(root, split)
    notes = Notes()
    with naming(file):
        content = json.loads(file.read_bytes())
        classes = _read_categories(content["categories"], notes)
        images = _read_images(content["images"], notes)
        folder = _holding(folders, images)
        paths = [folder / image.file_name for image in images]
        sizes = [image.size for image in images]
        check_images(paths, sizes, [file] * len(paths))
        note_unlisted(folder, paths, "that the list does not have", notes)
        objects = _read_objects(images, content["annotations"], list(classes), clip_boxes, notes)
        ids = [image.id for image in images]
        names, class_ids = list(classes.values()), list(classes)
    return source_of_files(specification, paths, sizes, objects, names, ids, class_ids, COCO, notes)


def is_flat_coco(path: str, *splits: str) -> bool:
    """Tells if a folder has one file with COCO's annotations and none of the splits.

    Args:
        path: path of the folder.
        *splits: names of the splits.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.detection.coco_annotations import is_flat_coco

        folder = pathlib.Path(tempfile.mkdtemp())
        (folder / "boxes.json").write_text('{"images": [], "annotations": [], "categories": []}')
        assert is_flat_coco(str(folder), "train2017", "val2017")
        ```
    """
    root = pathlib.Path(path).expanduser()
    files = [file for split in splits for file in _files_of_split(root, split)]
    files += root.glob("*/_annotations.coco.json")
    if any(file.exists() for file in files):
        return False
    only = _only_file(root)
    return only is not None and _is_coco(only)


def _files_of_split(root: pathlib.Path, split: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Paths of the annotations of a split in COCO's and in Roboflow's layout."""
    return root / "annotations" / f"instances_{split}.json", root / split / "_annotations.coco.json"


def _only_file(root: pathlib.Path) -> pathlib.Path | None:
    """Path of the only JSON file in a folder or in its `annotations`."""
    for folder in (root, root / "annotations"):
        files = [file for file in folder.glob("*.json") if not file.name.startswith(".")]
        if files:
            return files[0] if len(files) == 1 else None
    return None


def _is_coco(file: pathlib.Path) -> bool:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def _find_files(root: pathlib.Path, split: str) -> tuple[pathlib.Path, list[pathlib.Path]]:
    """Path of the annotations of a split, and folders that may contain its images."""
    if split == WHOLE:
        only = _only_file(root)
        if only is None:
            raise ValueError(f"{root} and {root / 'annotations'} do not have one file of COCO")
        name = only.stem.removeprefix("instances_")
        folders = [root / "images", root / "images" / name, root / name, root]
        return only, [folder for folder in folders if folder.is_dir()]
    file, of_roboflow = _files_of_split(root, split)
    if file.exists():
        folders = [root / split, root / "images" / split, root / "images"]
        return file, [folder for folder in folders if folder.is_dir()][:1] or folders[:1]
    if of_roboflow.exists():
        return of_roboflow, [root / split]
    raise ValueError(f"there is no {file}, nor {of_roboflow}{conversion_hint(root, split)}")


def _holding(folders: Sequence[pathlib.Path], images: Sequence[_Image]) -> pathlib.Path:
    """First folder that contains the first image; the first folder if none does."""
    holding = (x for x in folders if images and (x / images[0].file_name).exists())
    return next(holding, folders[0])


def _read_categories(categories: list, notes: Notes) -> dict[int, str]:
    """Class names by id, in order of ids."""
    names: dict[int, str] = {}
    for position, one in enumerate(categories):
        with naming(_name("category", one, position)):
            number, name = one["id"], one["name"]
            if not isinstance(number, int) or isinstance(number, bool):
                raise ValueError(f"id must be a whole number. Received: {number!r:.80}")
            if not isinstance(name, (str, int)) or isinstance(name, bool):
                raise ValueError(f"name must be a text. Received: {name!r:.80}")
            if names.setdefault(number, str(name)) != str(name):
                raise ValueError(f"the names {names[number]!r} and {name!r} have the same id")
    if len(names) < len(categories):
        kind = "categories that are there twice, read once"
        notes.add(kind, _twice(categories), len(categories) - len(names))
    if len(set(names.values())) < len(names):
        kind = "categories with the name of another one, which are another class"
        values = list(names.values())
        repeated = [name for number, name in enumerate(values) if name in values[:number]]
        notes.add(kind, repeated[0], len(repeated))
    return dict(sorted(names.items()))


def _read_images(images: list, notes: Notes) -> list[_Image]:
    """Reads the entries of the images."""
    by_id: dict[int | str, _Image] = {}
    files = set()
    for position, one in enumerate(images):
        with naming(_name("image", one, position)):
            number, file_name = one["id"], one["file_name"]
            if not (is_number(number) or isinstance(number, str)):
                raise ValueError(f"id must be a number or a text. Received: {number!r:.80}")
            if not isinstance(file_name, str):
                raise ValueError(f"file_name must be a text. Received: {file_name!r:.80}")
            image = _Image(number, file_name, read_size(one))
            same = by_id.setdefault(number, image)
            if same.file_name != file_name:
                raise ValueError(f"{same.file_name} and {file_name} have this id")
            if same is not image:
                notes.add("images that are in the list twice, read once", file_name)
            elif file_name in files:
                notes.add("images that are in the list under several ids", file_name)
            files.add(file_name)
    return list(by_id.values())


def _read_objects(
    images: list[_Image],
    annotations: list,
    class_ids: list[int],
    clip_boxes: bool,
    notes: Notes,
) -> list[Objects]:
    """Reads the objects of each image. Classes are numbered in order of their ids."""
    numbers = {class_id: number for number, class_id in enumerate(class_ids)}
    by_image: dict[int | str, list[_Annotation]] = {image.id: [] for image in images}
    rows: list[_Annotation] = []
    ids = set()
    for position, one in enumerate(annotations):
        name = _name("annotation", one, position)
        with naming(name):
            if "id" in one:
                if one["id"] in ids:
                    notes.add("annotations with the id of another one, read anyway", name)
                ids.add(one["id"])
            if one["image_id"] not in by_image:
                notes.add("annotations of unknown images, left out", name)
                continue
            row = _read_annotation(name, one, numbers, notes)
        by_image[one["image_id"]].append(row)
        rows.append(row)
    if annotations and not rows:
        raise ValueError(
            f"no annotation belongs to an image in the list: {_name('annotation', annotations[0], 0)} has "
            f"the image_id {annotations[0]['image_id']!r:.80}, the first image in the list has the id "
            + (f"{images[0].id!r:.80}" if images else "none")
        )
    boxes = [row.box for row in rows]
    check_units(boxes, [w > 0 and h > 0 for *_, w, h in boxes], [row.name for row in rows], notes)
    return [_make_objects(image, by_image[image.id], clip_boxes, notes) for image in images]


def _read_annotation(
    name: str, one: dict[str, Any], numbers: dict[int, int], notes: Notes
) -> _Annotation:
    """Checks the values of an annotation."""
    category, box, area = one["category_id"], one["bbox"], one.get("area")
    if category not in numbers:
        raise ValueError(f"the category {category!r:.80} is not in the list")
    if not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
        raise ValueError(f"bbox must be four numbers. Received: {box!r:.80}")
    if area is None:
        notes.add("annotations without an area, which get their box's", name)
        area = box[2] * box[3]
    if not is_number(area) or not 0 <= area < math.inf:
        raise ValueError(f"area must be a number from 0 on. Received: {area!r:.80}")
    is_crowd = read_flag(one.get("iscrowd", 0), "iscrowd")
    box = tuple(box)
    return _Annotation(name, box, numbers[category], is_crowd, area, one.get("segmentation"))


def _make_objects(
    image: _Image, rows: list[_Annotation], clip_boxes: bool, notes: Notes
) -> Objects:
    return make_objects(
        f"image {image.file_name}",
        image.size,
        [[x, y, x + width, y + height] for x, y, width, height in (row.box for row in rows)],
        [row.class_number for row in rows],
        [row.is_crowd for row in rows],
        [row.area for row in rows],
        [row.segmentation for row in rows],
        names=[row.name for row in rows],
        clip_boxes=clip_boxes,
        notes=notes,
    )


def _name(kind: str, one: Any, position: int) -> str:
    """Name of an entry in messages: its id, or its index in the list."""
    if isinstance(one, dict) and isinstance(one.get("id"), (int, float, str)):
        return f"{kind} {one['id']}"
    return f"{kind} number {position + 1} of the list"


def _twice(categories: list) -> str:
    """Name of the first category whose id is already used."""
    ids = [one["id"] for one in categories]
    return str(next(one["name"] for n, one in enumerate(categories) if one["id"] in ids[:n]))
