"""Boxes of Pascal VOC: an XML file for each image."""

import pathlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from pixpro_keras.data.sources.folder import find_folder
from pixpro_keras.data.voc_classes import VOC_CLASSES
from pixpro_keras.detection.annotations import naming_file, source_of_files
from pixpro_keras.detection.box_source import VOC07, VOC12, BoxSource, Objects, make_objects


def open_voc_boxes(
    specification: str, path: str, split: str, data_dir: str | None = None
) -> BoxSource:
    """Opens Pascal VOC's boxes.

    Args:
        specification: name of the source.
        path: path of a folder with `VOC2007`, `VOC2012` or both, and `classes.txt` if its classes are
            not VOC's.
        split: years and lists in `ImageSets/Main`, such as `2007_trainval,2012_trainval`.
        data_dir: not used.

    Raises:
        ValueError: if something is missing or wrong, with the file.
    """
    del data_dir
    root = find_folder(path)
    names: Sequence[str] = VOC_CLASSES
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
            size, in_image = _read_annotation(annotation, names)
            paths.append(folder / "JPEGImages" / f"{stem}.jpg")
            sizes.append(size)
            objects.append(in_image)
            stems.append(stem)
    metric = VOC07 if years == {"2007"} else VOC12
    class_ids = range(1, len(names) + 1)
    return source_of_files(specification, paths, sizes, objects, names, stems, class_ids, metric)


def _read_annotation(path: pathlib.Path, names: Sequence[str]) -> tuple[tuple[int, int], Objects]:
    """Size of an image, and its objects."""
    if not path.exists():
        raise ValueError(f"the annotation {path} is missing")
    with naming_file(path):
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
