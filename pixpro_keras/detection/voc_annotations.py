"""Boxes of Pascal VOC: an XML file for each image."""

import dataclasses
import pathlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import NamedTuple

from pixpro_keras.data.lookalikes import lookalike, spelled
from pixpro_keras.data.sources.folder import find_folder, find_image
from pixpro_keras.data.text_lists import read_names
from pixpro_keras.data.voc_classes import VOC_CLASSES
from pixpro_keras.detection.annotations import (
    WHOLE,
    check_images,
    check_units,
    naming,
    note_unlisted,
    read_flag,
    read_size,
    source_of_files,
)
from pixpro_keras.detection.box_source import VOC07, VOC12, BoxSource
from pixpro_keras.detection.layouts import conversion_hint
from pixpro_keras.detection.notes import Notes
from pixpro_keras.detection.objects import Objects, make_objects


class _Entry(NamedTuple):
    """An image, its name in the lists, its annotation, and the year of its folder, if it has one."""

    image: pathlib.Path
    stem: str
    annotation: pathlib.Path
    year: str


@dataclasses.dataclass(frozen=True)
class _Annotation:
    """Content of an XML file."""

    path: pathlib.Path
    size: tuple[int, int]
    names: list[str]  # of the objects
    corners: list[tuple[float, ...]]  # xmin, ymin, xmax, ymax, as in the file
    classes: list[int]
    is_difficult: list[bool]


def open_voc_boxes(
    specification: str,
    path: str,
    split: str,
    data_dir: str | None = None,
    clip_boxes: bool = False,
) -> BoxSource:
    """Opens Pascal VOC's boxes.

    Args:
        specification: name of the source.
        path: path of a folder with `VOC2007`, `VOC2012` or both, and `classes.txt`, one class a line,
            if its classes are not VOC's; or as CVAT exports, with `ImageSets`, `Annotations` and
            `JPEGImages`, and `labelmap.txt` in the place of `classes.txt`.
        split: years and lists in `ImageSets/Main`, such as `2007_trainval,2012_trainval`; only lists,
            such as `default`, where there is no folder of a year; `WHOLE`: all annotations of a folder
            without lists; see `is_flat_voc`.
        data_dir: not used.
        clip_boxes: whether boxes that are far or mostly outside of their image are cut off.

    Raises:
        ValueError: if something is missing or wrong, with the file.
    """
    del data_dir
    root = find_folder(path)
    class_names = _read_classes(root)
    notes = Notes()
    entries = _all_entries(root, notes) if split == WHOLE else _entries(root, split, notes)
    annotations = [_read_annotation(entry.annotation, class_names) for entry in entries]
    paths = [entry.image for entry in entries]
    sizes = [one.size for one in annotations]
    check_images(paths, sizes, [one.path for one in annotations])
    _check_units(annotations, notes)
    objects = [_make_objects(one, clip_boxes, notes) for one in annotations]
    stems = [entry.stem for entry in entries]
    class_ids = range(1, len(class_names) + 1)
    metric = VOC07 if {entry.year for entry in entries} == {"2007"} else VOC12
    return source_of_files(
        specification, paths, sizes, objects, class_names, stems, class_ids, metric, notes
    )


def _all_entries(root: pathlib.Path, notes: Notes) -> list[_Entry]:
    """Images of a folder without lists."""
    folder = _flat_images(root)
    entries = [
        _Entry(find_image(folder, file.stem), file.stem, file, year="")
        for file in _flat_files(root)
    ]
    note_unlisted(folder, [entry.image for entry in entries], "without an annotation", notes)
    return entries


def _entries(root: pathlib.Path, split: str, notes: Notes) -> list[_Entry]:
    """Images in the lists of a split, each once."""
    has_years = not (root / "ImageSets").is_dir()
    entries: dict[pathlib.Path, _Entry] = {}
    for part in split.split(","):
        year, _, name = part.partition("_") if has_years else ("", "", part)
        folder = root / f"VOC{year}" if has_years else root
        listing = folder / "ImageSets" / "Main" / f"{name}.txt"
        if not listing.exists():
            raise ValueError(
                f"the split {part!r}, such as 2007_trainval, is missing: there is no {listing}"
                f"{conversion_hint(root, part)}"
            )
        for stem in _read_list(listing, folder / "Annotations", notes):
            image = find_image(folder / "JPEGImages", stem)
            if image in entries:
                notes.add("images that are listed twice, read once", str(image))
                continue
            entries[image] = _Entry(image, stem, folder / "Annotations" / f"{stem}.xml", year)
    return list(entries.values())


def is_flat_voc(path: str) -> bool:
    """Tells if a folder has VOC's annotations without lists of splits.

    They are XML files in `Annotations`, with the images in `JPEGImages` or `images`, or XML files and images
    side by side.

    Args:
        path: path of the folder.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.detection.voc_annotations import is_flat_voc

        folder = pathlib.Path(tempfile.mkdtemp())
        (folder / "a.xml").write_text("<annotation/>")
        assert is_flat_voc(str(folder))
        ```
    """
    root = pathlib.Path(path).expanduser()
    has_lists = any(path.is_dir() for path in (root / "ImageSets", *root.glob("VOC*")))
    return not has_lists and bool(_flat_files(root))


def _flat_files(root: pathlib.Path) -> list[pathlib.Path]:
    """XML files of a folder without split lists, except CVAT's."""
    folder = root / "Annotations" if (root / "Annotations").is_dir() else root
    files = sorted(folder.glob("*.xml"))
    return [file for file in files if file.name[0] != "." and file.name != "annotations.xml"]


def _flat_images(root: pathlib.Path) -> pathlib.Path:
    folders = (root / "JPEGImages", root / "images")
    return next((folder for folder in folders if folder.is_dir()), root)


def _read_classes(root: pathlib.Path) -> Sequence[str]:
    path = root / "classes.txt"
    names = []
    if path.exists():
        names = read_names(path)
    elif (path := root / "labelmap.txt").exists():
        # label:color:parts:actions
        labels = [line.partition(":")[0].strip() for line in read_names(path)]
        names = [one for one in labels if one != "background" and not one.startswith("#")]
    else:
        return VOC_CLASSES
    repeated = [name for number, name in enumerate(names) if name in names[:number]]
    if not names or repeated:
        problem = f"the class {repeated[0]!r} is there twice" if repeated else "there is no class"
        raise ValueError(f"{path}: {problem}; it must have one class a line")
    return names


def _read_list(path: pathlib.Path, annotations: pathlib.Path, notes: Notes) -> list[str]:
    """Names of the images in the list of a split, or of a split and a class.

    Lists of a class have -1, 0 or 1 after each name. A name may also end like that; then it depends on
    which annotation exists.

    Args:
        path: path of the list.
        annotations: folder of the annotations.
        notes: counts, to which the lines with a number after the name are added.
    """
    lines = read_names(path)
    matches = [re.fullmatch(r"(.*\S)\s+(?:-1|0|1)", line) for line in lines]
    has_labels = all(matches)
    stems = []
    for line, match in zip(lines, matches, strict=True):
        whole = (annotations / f"{line}.xml").exists()
        if match is None or (whole and not has_labels):
            stems.append(line)
            continue
        part = (annotations / f"{match[1]}.xml").exists()
        if whole and part:
            raise ValueError(
                f"{path}: the line {line!r} may be the image {line!r}, or {match[1]!r} with a number"
            )
        if not whole and not part:
            raise ValueError(
                f"{path}: for the line {line!r}, neither the annotation {annotations / line}.xml nor "
                f"{annotations / match[1]}.xml is there"
            )
        stems.append(line if whole else match[1])
        if part:
            kind = "numbers after names in lists of images, not used: all objects are read"
            notes.add(kind, f"{line!r} in {path}", is_expected=True)
    return stems


def _read_annotation(path: pathlib.Path, class_names: Sequence[str]) -> _Annotation:
    """Checks the values of an XML file."""
    if not path.exists():
        raise ValueError(f"the annotation {path} is missing")
    with naming(path):
        tree = ElementTree.parse(path).getroot()
        size = read_size({side: _number(tree, f"size/{side}") for side in ("height", "width")})
        one = _Annotation(path, size, [], [], [], [])
        for number, element in enumerate(tree.iter("object")):
            name = f"object {number + 1}"
            with naming(name):
                class_name = _text(element, "name")
                if class_name not in class_names:
                    same = lookalike(class_name, class_names)
                    hint = f"; {spelled(same)} looks like {spelled(class_name)}" if same else ""
                    raise ValueError(
                        f"the class {class_name!r} is none of {', '.join(class_names)}{hint}"
                    )
                if len(element.findall("bndbox")) > 1:
                    raise ValueError("there are several bndbox; each object has one")
                sides = ("xmin", "ymin", "xmax", "ymax")
                one.corners.append(tuple(_number(element, f"bndbox/{side}") for side in sides))
                # An empty element equals a missing one.
                difficult = element.findtext("difficult", "0").strip() or "0"
                one.is_difficult.append(read_flag(difficult, "difficult"))
                one.classes.append(class_names.index(class_name))
                one.names.append(f"{name}, {class_name!r}")
    return one


def _check_units(annotations: list[_Annotation], notes: Notes) -> None:
    rows = [
        (corners, f"{name}, of {one.path}")
        for one in annotations
        for corners, name in zip(one.corners, one.names, strict=True)
    ]
    boxes = [corners for corners, _ in rows]
    has_area = [x2 > x1 and y2 > y1 for x1, y1, x2, y2 in boxes]
    check_units(boxes, has_area, [name for _, name in rows], notes)


def _make_objects(one: _Annotation, clip_boxes: bool, notes: Notes) -> Objects:
    return make_objects(
        str(one.path),
        one.size,
        # VOC counts pixels from 1, and the last one is inside.
        [[x1 - 1, y1 - 1, x2, y2] for x1, y1, x2, y2 in one.corners],
        one.classes,
        one.is_difficult,
        names=one.names,
        clip_boxes=clip_boxes,
        notes=notes,
    )


def _text(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"there is no {path}")
    return text.strip()


def _number(element: ElementTree.Element, path: str) -> float:
    text = _text(element, path)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{path} must be a number. Received: {text!r:.80}") from None
