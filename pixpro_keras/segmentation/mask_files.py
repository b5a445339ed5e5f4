"""Images and masks in files: plain folders, Pascal VOC, Cityscapes."""

import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.data import python_ops
from pixpro_keras.data.decoding import decode, upright_size, warn_of_small_ranges
from pixpro_keras.data.sources.folder import find_folder, find_image, iterate_images
from pixpro_keras.data.text_lists import read_names
from pixpro_keras.data.voc_classes import VOC_CLASSES
from pixpro_keras.segmentation.mask_source import LabelValues, MaskSource, class_table
from pixpro_keras.segmentation.mask_values import (
    classes_of_masks,
    one_class_message,
    read_class_names,
    values_in,
    warn_of_palettes,
)
from pixpro_keras.types import IGNORED, Tensor
from pixpro_keras.utils.fingerprint import fingerprint, size_fingerprint

_LOSSY = ("JPEG", "JPEG2000", "MPO", "WEBP")
_NUM_LOOKED_AT = 16  # Number of masks whose values are checked before a run.

CITYSCAPES_CLASSES = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic_light",
    "traffic_sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
# The evaluated ones of Cityscapes' 34 classes, in order of their training ids.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def is_flat_folder(path: str, *splits: str) -> bool:
    """Tells if a folder has images and masks, and none of the splits.

    Args:
        path: path of the folder.
        *splits: names of the splits.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.segmentation.mask_files import is_flat_folder

        folder = pathlib.Path(tempfile.mkdtemp())
        (folder / "images").mkdir()
        assert is_flat_folder(str(folder), "train", "val")
        ```
    """
    root = pathlib.Path(path).expanduser()
    has_split = any((root / split / "images").is_dir() for split in splits)
    return (root / "images").is_dir() and not has_split


def open_folder_masks(specification: str, path: str, split: str, values: LabelValues) -> MaskSource:
    """Opens a folder with `images` and `labels` (or `masks`), in a folder of the split or beside each other.

    Args:
        specification: name of the source.
        path: path of the folder.
        split: name of the split.
        values: meaning of the values in the masks.

    Raises:
        ValueError: if something is missing or wrong.
    """
    root = find_folder(path)
    folder = root / split if (root / split / "images").is_dir() else root
    if not (folder / "images").is_dir():
        raise ValueError(
            f"there is no image of the split {split!r}: neither {root / split / 'images'} nor "
            f"{root / 'images'} is a folder"
        )
    places = [folder / name for name in ("labels", "masks")]
    place = next((one for one in places if one.is_dir()), None)
    if place is None:
        raise ValueError(
            f"there is no folder {folder / 'labels'}: the masks are expected there, PNG files with the "
            f"names of those in {folder / 'images'}"
        )
    relative = [
        pathlib.Path(os.fsdecode(one)) for one in iterate_images(os.fsencode(folder / "images"))
    ]
    images = [folder / "images" / one for one in relative]
    masks = [_find_mask(place / one.with_suffix(".png")) for one in relative]
    _warn_of_unused(place, masks)
    lists = [parent / "classes.txt" for parent in (folder, root)]
    classes_file = next((file for file in lists if file.exists()), None)
    return _open_files(specification, split, images, masks, classes_file, values)


def open_voc_masks(specification: str, path: str, split: str, values: LabelValues) -> MaskSource:
    """Opens Pascal VOC's segmentation, a folder such as `VOCdevkit/VOC2012`.

    Args:
        specification: name of the source.
        path: path of the folder; its `classes.txt`, if there is one, names the classes.
        split: name of a list in `ImageSets/Segmentation`.
        values: meaning of the values in the masks.

    Raises:
        ValueError: if something is missing or wrong.
    """
    root = find_folder(path)
    listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not listing.exists():
        raise ValueError(f"there is no {listing}")
    lines = read_names(listing)
    stems = list(dict.fromkeys(lines))
    if len(stems) < len(lines):
        logging.warning("%s: %d repeated lines, read once", listing, len(lines) - len(stems))
    images = [find_image(root / "JPEGImages", stem) for stem in stems]
    masks = [_find_mask(root / "SegmentationClass" / f"{stem}.png") for stem in stems]
    file = root / "classes.txt"
    classes: pathlib.Path | Sequence[str] = ("background", *VOC_CLASSES)
    return _open_files(
        specification, split, images, masks, file if file.exists() else classes, values
    )


def open_cityscapes_masks(
    specification: str, path: str, split: str, data_dir: str | None = None
) -> MaskSource:
    """Opens Cityscapes, a folder with `leftImg8bit` and `gtFine`.

    Args:
        specification: name of the source.
        path: path of the folder.
        split: name of the split.
        data_dir: not used.

    Raises:
        ValueError: if something is missing or wrong.
    """
    del data_dir
    root = find_folder(path)
    ending = "_leftImg8bit.png"
    images = sorted((root / "leftImg8bit" / split).glob(f"*/*{ending}"))
    folder = root / "gtFine" / split
    masks = [
        folder / image.parent.name / image.name.replace(ending, "_gtFine_labelIds.png")
        for image in images
    ]
    table = class_table(np.array(CITYSCAPES_IDS))
    return _open_files(specification, split, images, masks, CITYSCAPES_CLASSES, table)


def _find_mask(path: pathlib.Path) -> pathlib.Path:
    """Path of a mask, also if its extension is in upper case."""
    upper = path.with_name(path.name.removesuffix(".png") + ".PNG")
    return upper if not path.exists() and upper.exists() else path


def _warn_of_unused(folder: pathlib.Path, masks: Sequence[pathlib.Path]) -> None:
    """Warns of mask files without an image."""
    used = set(masks)
    found = (folder / os.fsdecode(one) for one in iterate_images(os.fsencode(folder)))
    unused = [path for path in found if path not in used] if folder.is_dir() else []
    if unused:
        logging.warning(
            "%s: skipped %d files without an image, such as %s", folder, len(unused), unused[0]
        )


def _open_files(
    specification: str,
    split: str,
    images: Sequence[pathlib.Path],
    masks: Sequence[pathlib.Path],
    classes: pathlib.Path | Sequence[str] | None,
    values: LabelValues | np.ndarray,
) -> MaskSource:
    """Opens image files and their masks.

    Args:
        specification: name of the source.
        split: name of the split.
        images: files of the images.
        masks: files of the masks.
        classes: class names or the file that lists them; None to take them from the masks.
        values: class of each value in the masks, or the file with this table.
    """
    if not images:
        raise ValueError(f"there is no image of the split {split!r}")
    _check_pairs(images, masks)
    _check_headers(images, masks)
    own_values: tuple[int, ...] = ()
    if isinstance(classes, pathlib.Path):
        class_names = read_class_names(classes)
        known = f"{classes} has {len(class_names)} names"
    elif classes is not None:
        class_names = tuple(classes)
        known = f"there are {len(class_names)} classes"
    else:
        assert isinstance(values, LabelValues)  # A table comes with names.
        class_names, own_values = classes_of_masks(masks, values)
        known = f"--label_map gives classes to {sorted(values.classes or ())}"
    table = values.table(len(class_names)) if isinstance(values, LabelValues) else values
    looked_at = np.unique(np.linspace(0, len(masks) - 1, _NUM_LOOKED_AT).astype(int)).tolist()
    _check_values(masks, looked_at, table, known, values)
    warn_of_palettes([masks[number] for number in looked_at])
    warn_of_small_ranges(
        lambda number: images[number].read_bytes(), lambda number: str(images[number]), looked_at
    )
    top = os.path.commonpath([image.parent for image in images])
    return MaskSource(
        specification,
        len(images),
        _make_reader(images, masks, table, known),
        lambda index: str(images[index]),
        class_names,
        own_values,
        fingerprint(os.path.relpath(image, top) for image in images),
        fingerprint(size_fingerprint(x.__getitem__, len(x)) for x in (images, masks)),
    )


def _check_pairs(images: Sequence[pathlib.Path], masks: Sequence[pathlib.Path]) -> None:
    """Checks that all files exist and that no two images have the same mask."""
    owners: dict[pathlib.Path, pathlib.Path] = {}
    for image, mask in zip(images, masks, strict=True):
        if not os.path.lexists(image):  # A link that leads nowhere counts as a broken image.
            raise ValueError(f"the image {image} is missing")
        if not os.path.exists(mask):
            raise ValueError(f"{image}: the mask {mask} is missing")
        if owners.setdefault(mask, image) != image:
            raise ValueError(
                f"{owners[mask]} and {image} have the same name, and so the same mask {mask}"
            )


def _check_values(
    masks: Sequence[pathlib.Path],
    looked_at: Sequence[int],
    table: np.ndarray,
    known: str,
    values: LabelValues | np.ndarray,
) -> None:
    """Checks that the values in a sample of masks have a class, and that there is more than one class.

    Args:
        masks: files of the masks.
        looked_at: numbers of the masks in the sample.
        table: class of each value, as from `LabelValues.table`.
        known: description of the classes, for the error.
        values: as for `_open_files`.
    """

    def classes_in(mask: pathlib.Path) -> set[int]:
        present = values_in(mask)
        unknown = present[table[present] < 0]
        if len(unknown):
            raise ValueError(f"{mask} has the value {unknown[0]}{_without_class(known)}")
        return set(table[present].tolist())

    found = set().union(*(classes_in(masks[number]) for number in looked_at))
    if found not in ({IGNORED}, {0, IGNORED}):
        return
    # A rare class may be in masks that were not looked at yet.
    found = set().union(*map(classes_in, masks))
    if not found - {0, IGNORED} and isinstance(values, LabelValues):
        raise ValueError(one_class_message(masks[0], values))
    if found == {IGNORED}:  # The masks of Cityscapes' test split are not public.
        raise ValueError(f"no mask, such as {masks[0]}, has a pixel of a class")


def _make_reader(
    images: Sequence[pathlib.Path], masks: Sequence[pathlib.Path], table: np.ndarray, known: str
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Makes the function `read` of a `MaskSource`."""
    # As bytes, since names may be in any encoding.
    image_paths, mask_paths = (
        tf.constant([os.fsencode(path) for path in paths]) for paths in (images, masks)
    )
    constant_table = tf.constant(table)

    def read(index: Tensor) -> tuple[Tensor, Tensor]:
        image = decode(tf.io.read_file(image_paths[index]))
        values = tf.cast(python_ops.decode_indexed(tf.io.read_file(mask_paths[index])), tf.int32)
        mask = tf.gather(constant_table, values)
        unknown = tf.reduce_max(tf.where(mask < 0, values, -1))
        value = tf.strings.as_string(unknown)
        parts = [mask_paths[index], " has the value ", value, _without_class(known)]
        with tf.control_dependencies([tf.debugging.Assert(unknown < 0, [tf.strings.join(parts)])]):
            return image, tf.identity(mask)

    return read


def _without_class(known: str) -> str:
    """End of the error for a value without a class."""
    return f", for which there is no class: {known}"


def _check_headers(images: Sequence[pathlib.Path], masks: Sequence[pathlib.Path]) -> None:
    """Checks the headers of all files without decoding pixels, so that errors come before the run."""
    from PIL import Image

    unreadable = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
    for image_path, mask_path in zip(images, masks, strict=True):
        try:
            with Image.open(mask_path) as mask:
                mode, mask_size, kind = mask.mode, mask.size, mask.format
        except unreadable as error:
            raise ValueError(f"the mask {mask_path} cannot be read: {error}") from error
        try:
            with Image.open(image_path) as image:
                stored, size = image.size, upright_size(image)
        except unreadable:  # Reported as a broken image when it is read.
            stored = size = mask_size
        if size != mask_size:
            turned = ", turned upright as its EXIF data say," if size != stored else ""
            raise ValueError(
                f"{image_path}{turned} has the size {size}, its mask {mask_path} has {mask_size}"
            )
        if kind in _LOSSY:
            raise ValueError(
                f"{mask_path} is a {kind} file, whatever its name, whose compression changes values; masks "
                "must be stored without loss, as PNG"
            )
        if mode not in ("L", "P"):
            raise ValueError(f"{mask_path} must have one channel of 8 bits, not {mode}")
