"""Checks that the readers of annotation files share: errors, values, and the images that they name."""

import contextlib
import os
import pathlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pixpro_keras.data.decoding import upright_size, warn_of_small_ranges
from pixpro_keras.data.sources.folder import IMAGE_EXTENSIONS
from pixpro_keras.detection.box_source import BoxSource
from pixpro_keras.detection.notes import Notes
from pixpro_keras.detection.objects import Objects
from pixpro_keras.types import Tensor
from pixpro_keras.utils.fingerprint import fingerprint, sample, size_fingerprint

# Number of images whose headers are read at the start, 0.1 ms each: all but those of very large sets.
_NUM_HEADERS = 10_000
_NUM_LOOKED_AT = 16  # Number of images whose values are checked at the start.
_LARGEST_SIDE = 1 << 20

# Instead of a split: all images of a folder without splits.
WHOLE = ""


@contextlib.contextmanager
def naming(name: str | pathlib.Path) -> Iterator[None]:
    """Context that prefixes errors with the name of a file, or of an annotation in it.

    Args:
        name: path of the annotation file that is read inside, or name of the annotation.

    Raises:
        ValueError: for whatever is raised inside.
    """
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{name}: there is no {error}") from error
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error
    except (AttributeError, LookupError, OverflowError, RecursionError, TypeError) as error:
        raise ValueError(f"{name} has an invalid structure: {error}") from error


def is_number(value: Any) -> bool:
    """Returns True for an integer or a float, but not for a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_flag(value: Any, field: str) -> bool:
    """Reads a value that must be 0 or 1, as a number, a text or a truth value.

    Args:
        value: the value.
        field: its name in errors.

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip() in ("0", "1"):
        return value.strip() == "1"
    raise ValueError(f"{field} must be 0 or 1. Received: {value!r:.80}")


def read_size(sides: Mapping[str, Any]) -> tuple[int, int]:
    """Reads the height and width of an image.

    Args:
        sides: `height` and `width` of the annotation.

    Raises:
        ValueError: if one is no positive whole number.
    """
    height, width = (sides[name] for name in ("height", "width"))
    for name, side in (("height", height), ("width", width)):
        if not (is_number(side) and side == side // 1 and 0 < side <= _LARGEST_SIDE):
            raise ValueError(f"{name} must be a positive whole number. Received: {side!r:.80}")
    return int(height), int(width)


def check_images(
    paths: Sequence[pathlib.Path],
    sizes: Sequence[tuple[int, int]],
    annotations: Sequence[pathlib.Path],
) -> None:
    """Checks that all images exist, and that a sample of them has the annotated size.

    Of that sample, only headers are read; the other images are checked when they are decoded. A few PNG
    files are decoded, to warn of 16 bits that are nearly black.

    Args:
        paths: path of each image.
        sizes: height and width of each image, as annotated.
        annotations: annotation file of each image.

    Raises:
        ValueError: if an image is missing or has another size, with its name.
    """
    for path in paths:
        if not os.path.isfile(path):
            raise ValueError(f"the image {path} is missing")
    step = -(-len(paths) // _NUM_HEADERS) or 1
    for path, size, annotation in zip(
        paths[::step], sizes[::step], annotations[::step], strict=True
    ):
        _check_size(path, size, annotation)
    warn_of_small_ranges(
        lambda number: paths[number].read_bytes(),
        lambda number: str(paths[number]),
        list(range(0, len(paths), -(-len(paths) // _NUM_LOOKED_AT) or 1)),
    )


def _check_size(path: pathlib.Path, size: tuple[int, int], annotation: pathlib.Path) -> None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            stored, (width, height) = image.size, upright_size(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return  # Errors of decoding are reported when images are decoded.
    if (height, width) == size:
        return
    hint = ""
    if stored == size[::-1]:
        hint = ": the annotation does not count with the orientation in the image's EXIF data"
    elif (width, height) == size:
        hint = ": are height and width exchanged in the annotation?"
    raise ValueError(
        f"the image {path} is {width} pixels wide and {height} high, but {size[1]} wide and "
        f"{size[0]} high in {annotation}{hint}"
    )


def note_unlisted(
    folder: pathlib.Path, paths: Sequence[pathlib.Path], reason: str, notes: Notes
) -> None:
    """Counts images in a folder that are not listed.

    Args:
        folder: folder of the images; its subfolders do not count.
        paths: path of each image that is listed.
        reason: why the others are left out: "images in the folder REASON".
        notes: counts, to which these images are added.
    """
    listed = {os.path.basename(path) for path in paths if path.parent == folder}
    for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
        if name.lower().endswith(IMAGE_EXTENSIONS) and name not in listed and name[0] != ".":
            kind = f"images in the folder {reason}, left out"
            notes.add(kind, str(folder / name), is_expected=True)


def check_units(
    boxes: Sequence[Sequence[float]], has_area: Sequence[bool], names: Sequence[str], notes: Notes
) -> None:
    """Checks that boxes are in pixels, not in fractions of the image.

    Args:
        boxes: the four numbers of each box in the file.
        has_area: whether each box has an area.
        names: name of each box in errors.
        notes: counts, to which single boxes of this kind are added.

    Raises:
        ValueError: if all numbers are in 0..1 in more than half of the boxes with area.
    """
    values = np.asarray(boxes, np.float64).reshape(-1, 4)
    is_counted = np.asarray(has_area, bool)
    is_share = is_counted & ((values >= 0) & (values <= 1)).all(axis=1)
    if not is_share.any():
        return
    first, number = int(is_share.argmax()), int(is_share.sum())
    if 2 * number > is_counted.sum():
        shown = ", ".join(f"{value:g}" for value in values[first])
        raise ValueError(
            f"the box of {names[first]} is {shown}, and {number} of {is_counted.sum()} boxes are within "
            "0..1: they seem to be shares of the image, but must be in pixels. Multiply them by the "
            "image's width and height"
        )
    notes.add("boxes within an image's first pixel", names[first], number)


def source_of_files(
    specification: str,
    paths: Sequence[pathlib.Path],
    sizes: Sequence[tuple[int, int]],
    objects: Sequence[Objects],
    class_names: Sequence[str],
    image_ids: Sequence[int | str],
    class_ids: Sequence[int],
    metric: str,
    notes: Notes,
) -> BoxSource:
    """Makes a source of image files and their objects.

    Args:
        specification: name of the source.
        paths: path of each image.
        sizes: height and width of each image.
        objects: objects of each image.
        class_names: names of the classes 0, 1, ...
        image_ids: the data set's own name of each image.
        class_ids: the data set's own number of each class.
        metric: metric by which the data set is judged.
        notes: counts of what was left out or changed.

    Raises:
        ValueError: if there is no image.
    """
    if not paths:
        raise ValueError(f"{specification} holds no image of this split")
    encoded = [os.fsencode(path) for path in paths]  # Names may be in any encoding.

    def read(index: Tensor) -> Tensor:
        return tf.io.read_file(tf.constant(encoded)[index])

    masks = (repr(objects[number].segmentations) for number in sample(len(objects)))
    return BoxSource(
        specification,
        read,
        lambda index: str(paths[index]),
        np.array(sizes, np.int32),
        objects,
        tuple(class_names),
        image_ids,
        class_ids,
        metric,
        notes,
        fingerprint([size_fingerprint(paths.__getitem__, len(paths)), *masks]),
    )
