"""Images and masks in files: plain folders, Pascal VOC, Cityscapes."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pixpro_keras.data import python_ops
from pixpro_keras.data.decoding import decode
from pixpro_keras.data.sources.folder import IMAGE_EXTENSIONS, find_folder
from pixpro_keras.data.voc_classes import VOC_CLASSES
from pixpro_keras.segmentation.mask_source import MaskSource, class_table
from pixpro_keras.types import IGNORED, Tensor

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
# Of Cityscapes' 34 classes, those that count, in the order of their training numbers.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def open_folder_masks(
    specification: str, path: str, split: str, data_dir: str | None = None
) -> MaskSource:
    """Opens a folder with `images` and `labels`, in a folder of the split or beside each other.

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
    folder = root / split if (root / split / "images").is_dir() else root
    images = sorted(
        path for path in folder.glob("images/*") if path.suffix.lower() in IMAGE_EXTENSIONS
    )
    masks = [folder / "labels" / f"{path.stem}.png" for path in images]
    names: tuple[str, ...] = ()
    for parent in (root, folder):
        if (parent / "classes.txt").exists():
            names = tuple((parent / "classes.txt").read_text().split("\n"))
    names = tuple(name.strip() for name in names if name.strip())
    if not names and images and masks[0].exists():
        highest = max(_highest_class(mask) for mask in masks if mask.exists())
        names = tuple(f"class {number}" for number in range(highest + 1))
    return _open_files(specification, split, images, masks, names, np.arange(len(names)))


def _highest_class(mask: pathlib.Path) -> int:
    values = python_ops.load_indexed(mask.read_bytes())
    return int(values[values != IGNORED].max(initial=0))


def open_voc_masks(
    specification: str, path: str, split: str, data_dir: str | None = None
) -> MaskSource:
    """Opens Pascal VOC's segmentation, a folder such as `VOCdevkit/VOC2012`.

    Args:
        specification: name of the source.
        path: path of the folder.
        split: name of a list in `ImageSets/Segmentation`.
        data_dir: not used.

    Raises:
        ValueError: if something is missing or wrong.
    """
    del data_dir
    root = find_folder(path)
    listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not listing.exists():
        raise ValueError(f"there is no {listing}")
    stems = listing.read_text().split()
    images = [root / "JPEGImages" / f"{stem}.jpg" for stem in stems]
    masks = [root / "SegmentationClass" / f"{stem}.png" for stem in stems]
    names = ("background", *VOC_CLASSES)
    return _open_files(specification, split, images, masks, names, np.arange(len(names)))


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
    values = np.array(CITYSCAPES_IDS)
    return _open_files(specification, split, images, masks, CITYSCAPES_CLASSES, values)


def _open_files(
    specification: str,
    split: str,
    images: Sequence[pathlib.Path],
    masks: Sequence[pathlib.Path],
    class_names: Sequence[str],
    values: np.ndarray,
) -> MaskSource:
    """Opens image files and their masks, in which the classes have the given values."""
    if not images:
        raise ValueError(f"there is no image of the split {split!r}")
    for mask in masks:
        if not os.path.exists(mask):
            raise ValueError(f"the mask {mask} is missing")
    _check_headers(images, masks)
    image_paths, mask_paths = (tf.constant([str(x) for x in paths]) for paths in (images, masks))
    table = tf.constant(class_table(values))

    def read(index: Tensor) -> tuple[Tensor, Tensor]:
        image = decode(tf.io.read_file(image_paths[index]))
        mask = python_ops.decode_indexed(tf.io.read_file(mask_paths[index]))
        return image, tf.gather(table, tf.cast(mask, tf.int32))

    return MaskSource(
        specification, len(images), read, lambda index: str(images[index]), tuple(class_names)
    )


def _check_headers(images: Sequence[pathlib.Path], masks: Sequence[pathlib.Path]) -> None:
    """Checks the headers of all files, lest one ends a run in its middle; no pixel is decoded."""
    from PIL import Image

    for image_path, mask_path in zip(images, masks, strict=True):
        with Image.open(image_path) as image, Image.open(mask_path) as mask:
            if image.size != mask.size:
                raise ValueError(f"{image_path} is of {image.size} pixels, its mask of {mask.size}")
            if mask.mode not in ("L", "P"):
                raise ValueError(f"{mask_path} must have one channel of 8 bits, not {mask.mode}")
