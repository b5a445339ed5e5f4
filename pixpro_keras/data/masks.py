"""Images with a class for each pixel: plain folders, Pascal VOC and Cityscapes on disk."""

import dataclasses
import io
import os
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pixpro_keras.batch import Tensor
from pixpro_keras.data.sources import IMAGE_EXTENSIONS

IGNORED = 255
_KINDS = "folder:PATH, voc:PATH or cityscapes:PATH"
_VOC = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse "
    "motorbike person pottedplant sheep sofa train tvmonitor"
)
_CITYSCAPES = (
    "road sidewalk building wall fence pole traffic_light traffic_sign vegetation terrain sky person "
    "rider car truck bus train motorcycle bicycle"
)
# Of Cityscapes' 34 classes, those that count, in the order of their training numbers.
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


@dataclasses.dataclass(frozen=True)
class MaskSource:
    """Images and their masks by number.

    Attributes:
        name: how the source was asked for.
        images: paths.
        masks: paths of PNG files whose values, or palette indices, are classes.
        class_names: names of the classes 0, 1, ...
        table: `(256,)` int32, a mask's value to a class, or to 255 where it does not count.
    """

    name: str
    images: tuple[str, ...]
    masks: tuple[str, ...]
    class_names: tuple[str, ...]
    table: np.ndarray

    @property
    def num_examples(self) -> int:
        """Number of images."""
        return len(self.images)

    def reader(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Function for `Dataset.map`: scalar int64 index to `(H, W, 3)` uint8 and `(H, W)` int32."""
        images, masks, table = (tf.constant(x) for x in (self.images, self.masks, self.table))

        def read(index: Tensor) -> tuple[Tensor, Tensor]:
            encoded = tf.io.read_file(images[index])
            image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            image = tf.ensure_shape(image, (None, None, 3))
            encoded = tf.io.read_file(masks[index])
            # TensorFlow would turn palette indices into their colours.
            mask = tf.numpy_function(_decode_mask, [encoded], tf.uint8, stateful=False)
            mask = tf.gather(table, tf.cast(tf.ensure_shape(mask, (None, None)), tf.int32))
            same = tf.reduce_all(tf.equal(tf.shape(mask), tf.shape(image)[:2]))
            check = tf.debugging.Assert(same, ["image and mask differ in size:", images[index]])
            with tf.control_dependencies([check]):
                return image, tf.identity(mask)

        return read


def _decode_mask(encoded: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        mask = np.asarray(image)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"a mask must have one channel of 8 bits, not {mask.shape} {mask.dtype}")
    return mask


def open_masks(spec: str, split: str) -> MaskSource:
    """Opens the images and masks of a split.

    Args:
        spec: `folder:PATH` (`PATH/SPLIT/images/*.jpg`, `PATH/SPLIT/labels/*.png` of the same names,
            255 is ignored, and `PATH/classes.txt` or `PATH/SPLIT/classes.txt` if the classes have
            names); `voc:PATH` (a folder such as `VOCdevkit/VOC2012`); `cityscapes:PATH` (with
            `leftImg8bit` and `gtFine`).
        split: such as `train` or `val`.

    Raises:
        ValueError: if something is missing, with what was looked for.
    """
    kind, _, path = spec.partition(":")
    root = pathlib.Path(path).expanduser()
    openers = {"folder": _open_folder, "voc": _open_voc, "cityscapes": _open_cityscapes}
    if kind not in openers or not path:
        raise ValueError(f"the data set must be {_KINDS}. Received: {spec!r}")
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder")
    source = openers[kind](spec, root, split)
    if not source.images:
        raise ValueError(f"{root} holds no image of the split {split!r}")
    for mask in source.masks:
        if not os.path.exists(mask):
            raise ValueError(f"the mask {mask} is missing")
    return source


def _open_folder(spec: str, root: pathlib.Path, split: str) -> MaskSource:
    folder = root / split
    images = sorted(
        path for path in folder.glob("images/*") if path.suffix.lower() in IMAGE_EXTENSIONS
    )
    masks = [folder / "labels" / f"{path.stem}.png" for path in images]
    names: tuple[str, ...] = ()
    for place in (root, folder):
        if (place / "classes.txt").exists():
            names = tuple((place / "classes.txt").read_text().split("\n"))
    names = tuple(name.strip() for name in names if name.strip())
    if not names and images and masks[0].exists():
        highest = max(_highest_class(mask) for mask in masks if mask.exists())
        names = tuple(f"class {number}" for number in range(highest + 1))
    return _make(spec, images, masks, names, np.arange(len(names)))


def _highest_class(mask: pathlib.Path) -> int:
    values = _decode_mask(mask.read_bytes())
    return int(values[values != IGNORED].max(initial=0))


def _open_voc(spec: str, root: pathlib.Path, split: str) -> MaskSource:
    listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not listing.exists():
        raise ValueError(f"there is no {listing}")
    stems = listing.read_text().split()
    images = [root / "JPEGImages" / f"{stem}.jpg" for stem in stems]
    masks = [root / "SegmentationClass" / f"{stem}.png" for stem in stems]
    return _make(spec, images, masks, tuple(_VOC.split()), np.arange(21))


def _open_cityscapes(spec: str, root: pathlib.Path, split: str) -> MaskSource:
    ending = "_leftImg8bit.png"
    images = sorted((root / "leftImg8bit" / split).glob(f"*/*{ending}"))
    masks = [
        root
        / "gtFine"
        / split
        / path.parent.name
        / path.name.replace(ending, "_gtFine_labelIds.png")
        for path in images
    ]
    return _make(spec, images, masks, tuple(_CITYSCAPES.split()), np.array(_CITYSCAPES_IDS))


def _make(spec, images, masks, class_names, values) -> MaskSource:
    """`values`: of each class, its value in the masks; all others do not count."""
    table = np.full(256, IGNORED, np.int32)
    table[values] = np.arange(len(values))
    return MaskSource(
        spec, tuple(map(str, images)), tuple(map(str, masks)), tuple(class_names), table
    )
