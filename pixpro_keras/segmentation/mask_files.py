"""Images and masks in files: plain folders, Pascal VOC, Cityscapes."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.data import python_ops
from pixpro_keras.data.decoding import decode, upright_size, warn_of_small_ranges
from pixpro_keras.data.sources.folder import find_folder, find_image, iterate_images
from pixpro_keras.data.text_lists import read_names
from pixpro_keras.data.voc_classes import VOC_CLASSES
from pixpro_keras.segmentation.mask_source import LabelValues, MaskSource, class_table
from pixpro_keras.types import IGNORED, Tensor

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


def read_class_names(path: str | os.PathLike) -> tuple[str, ...]:
    r"""Reads a list of classes, the first of which has the number 0.

    A blank line is a class without a name, so that those after it keep their numbers.

    Args:
        path: path of the list.

    Raises:
        ValueError: if it has no name, or one of them twice.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.segmentation.mask_files import read_class_names

        file = pathlib.Path(tempfile.mkdtemp()) / "classes.txt"
        file.write_text("sky\n\ncar\n")
        assert read_class_names(file) == ("sky", "class 1", "car")
        ```
    """
    lines = read_names(path, keep_blank=True)
    if not lines:
        raise ValueError(f"{path} has no name of a class")
    blank = [str(number + 1) for number, line in enumerate(lines) if not line]
    if blank:
        logging.warning(
            "%s: the blank lines (%s) count as classes without a name", path, ", ".join(blank)
        )
    names = tuple(line or f"class {number}" for number, line in enumerate(lines))
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} names {twice[0]!r} twice")
    return names


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
        class_names, own_values = _classes_of_masks(masks, values)
        known = f"--label_map gives classes to {sorted(values.classes or ())}"
    table = values.table(len(class_names)) if isinstance(values, LabelValues) else values

    def complaint(mask: pathlib.Path, value: int) -> str:
        return f"{mask} has the value {value}, for which there is no class: {known}"

    def classes_in(mask: pathlib.Path) -> set[int]:
        present = _values_in(mask)
        unknown = present[table[present] < 0]
        if len(unknown):
            raise ValueError(complaint(mask, int(unknown[0])))
        return set(table[present].tolist())

    looked_at = np.unique(np.linspace(0, len(masks) - 1, _NUM_LOOKED_AT).astype(int))
    found = set().union(*(classes_in(masks[number]) for number in looked_at))
    if found in ({IGNORED}, {0, IGNORED}) and isinstance(values, LabelValues):
        # A rare class may be in masks that were not looked at yet.
        found = set().union(*map(classes_in, masks))
        if not found - {0, IGNORED}:
            raise ValueError(_one_class(masks[0], values))
    warn_of_small_ranges(
        lambda number: images[number].read_bytes(),
        lambda number: str(images[number]),
        looked_at.tolist(),
    )
    # As bytes, since names need not be of any encoding.
    image_paths, mask_paths = (
        tf.constant([os.fsencode(path) for path in paths]) for paths in (images, masks)
    )
    constant_table = tf.constant(table)

    def read(index: Tensor) -> tuple[Tensor, Tensor]:
        image = decode(tf.io.read_file(image_paths[index]))
        mask = python_ops.decode_indexed(tf.io.read_file(mask_paths[index]))
        mask = tf.cast(mask, tf.int32)
        result = tf.gather(constant_table, mask)
        unknown = tf.reduce_max(tf.where(result < 0, mask, -1))
        message = tf.strings.join(
            [mask_paths[index], " has the value ", tf.strings.as_string(unknown)]
        )
        message = tf.strings.join([message, f", for which there is no class: {known}"])
        with tf.control_dependencies([tf.debugging.Assert(unknown < 0, [message])]):
            return image, tf.identity(result)

    return MaskSource(
        specification,
        len(images),
        read,
        lambda index: str(images[index]),
        tuple(class_names),
        own_values,
    )


def warn_of_gaps(sources: Sequence[MaskSource], ignored: int | None) -> None:
    """Warns of classes that are in no mask, because the values in the masks are no numbers in a row.

    Args:
        sources: parts of a data set; only those whose classes come from the values in their masks count.
        ignored: value of pixels that do not count.
    """
    counted = values_of(sources)
    missing = set(range(max(counted, default=0))) - {*counted, ignored}
    if missing:
        logging.warning(
            "the masks of %s have the values %s alone: %d of %d classes occur nowhere; "
            "--label_map=%s gives those that occur numbers in a row",
            " and ".join(dict.fromkeys(source.name for source in sources)),
            ", ".join(map(str, counted)),
            len(missing),
            counted[-1] + 1,
            map_in_a_row(counted),
        )


def values_of(sources: Sequence[MaskSource]) -> list[int]:
    """Returns the values in the masks of several sources, in ascending order; see `MaskSource.values`."""
    return sorted({value for source in sources for value in source.values})


def _classes_of_masks(
    masks: Sequence[pathlib.Path], values: LabelValues
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Class names for the values in the masks, without a list of names, and these values."""
    if values.classes is not None:
        names = tuple(f"class {number}" for number in range(max(values.classes.values()) + 1))
        return names, ()
    found: dict[int, pathlib.Path] = {}  # The first mask with each value.
    for mask in masks:
        found = dict.fromkeys(_values_in(mask).tolist(), mask) | found
    if 255 in found and values.ignored != 255:
        ignored = -1 if values.ignored is None else values.ignored
        raise ValueError(
            f"{found[255]} has the value 255, which --ignore_value={ignored} does not ignore, and is no "
            "class without --label_map: their numbers are 0 to 254"
        )
    counted = sorted(found.keys() - {values.ignored})
    if not set(counted) - {0}:
        raise ValueError(_one_class(masks[0], values))
    return tuple(f"class {number}" for number in range(counted[-1] + 1)), tuple(counted)


def _values_in(mask: pathlib.Path) -> np.ndarray:
    try:
        return np.unique(python_ops.load_indexed(mask.read_bytes()))
    except (OSError, SyntaxError):  # Reported as a broken image when it is read.
        return np.zeros(0, np.uint8)


def _one_class(mask: pathlib.Path, values: LabelValues) -> str:
    present = _values_in(mask).tolist()
    way = ""
    if values.ignored in present and len(present) > 1:
        way = (
            f". If {values.ignored} is a class too, --label_map={map_in_a_row(present)} gives each "
            "value its class; --ignore_value names another value to ignore"
        )
    ignored = "" if values.ignored is None else f" beside {values.ignored}, which is ignored,"
    return (
        f"all masks, such as {mask}, hold one class or none{ignored} so nothing can be learned{way}"
    )


def map_in_a_row(values: Sequence[int]) -> str:
    """Returns a `--label_map` that gives values numbers in a row."""
    return ",".join(f"{value}:{number}" for number, value in enumerate(values))


def _check_headers(images: Sequence[pathlib.Path], masks: Sequence[pathlib.Path]) -> None:
    """Checks the headers of all files without decoding pixels, so that errors come before the run."""
    from PIL import Image

    unreadable = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
    for image_path, mask_path in zip(images, masks, strict=True):
        try:
            with Image.open(mask_path) as mask:
                mode, mask_size = mask.mode, mask.size
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
                f"{image_path}{turned} is of {size} pixels, its mask of {mask_size}: {mask_path}"
            )
        if mode not in ("L", "P"):
            raise ValueError(f"{mask_path} must have one channel of 8 bits, not {mode}")
