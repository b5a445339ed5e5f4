"""Images with a class for each pixel: plain folders, Pascal VOC, Cityscapes, TFDS, embedded scenes."""

import dataclasses
import io
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from pixpro_keras.data.sources import (
    IMAGE_EXTENSIONS,
    prepare_tfds,
    read_record,
    split_records,
)
from pixpro_keras.types import Tensor

IGNORED = 255
_KINDS = "folder:PATH, voc:PATH, cityscapes:PATH, tfds:NAME[/config] or scenes"
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


# Names of image and mask in TFDS data sets.
_TFDS_FEATURES = (("image", "segmentation_mask"), ("image_left", "segmentation_label"))


@dataclasses.dataclass(frozen=True)
class MaskSource:
    """Images and their masks by number.

    Attributes:
        name: how the source was asked for.
        num_examples: number of images.
        read: in a graph, scalar int64 index to image, `(H, W, 3)` uint8, and mask, `(H, W)` int32:
            classes, and 255 where a pixel does not count.
        describe: index to what a person would call the image.
        class_names: names of the classes 0, 1, ...
    """

    name: str
    num_examples: int
    read: Callable[[Tensor], tuple[Tensor, Tensor]]
    describe: Callable[[int], str]
    class_names: tuple[str, ...]


def _decode_mask(encoded: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image)


def open_masks(spec: str, split: str, *, data_dir: str | None = None) -> MaskSource:
    """Opens the images and masks of a split.

    Args:
        spec: `folder:PATH` (`PATH/SPLIT/images/*.jpg`, `PATH/SPLIT/labels/*.png` of the same names,
            255 is ignored, and `PATH/classes.txt` or `PATH/SPLIT/classes.txt` if the classes have
            names; where there is no `PATH/SPLIT`, `PATH/images` and `PATH/labels`); `voc:PATH` (a
            folder such as `VOCdevkit/VOC2012`); `cityscapes:PATH` (with `leftImg8bit` and `gtFine`);
            `tfds:NAME[/config]` (with the features `image` and `segmentation_mask`, or those of
            `cityscapes`); `scenes` (the embedded set).
        split: such as `train` or `val`, or a slice of a TFDS split, `train[:10%]`.
        data_dir: where TFDS keeps its data sets; None is TFDS's default.

    Raises:
        ValueError: if something is missing, with what was looked for.
    """
    kind, _, path = spec.partition(":")
    if kind == "scenes" and not path:
        from pixpro_keras.data.scenes import scenes_dataset  # drawing code, for this source only

        return _open_tfds(spec, scenes_dataset.builder(data_dir), split)
    if kind == "tfds" and path:
        return _open_tfds(spec, prepare_tfds(path, data_dir), split)
    openers = {"folder": _open_folder, "voc": _open_voc, "cityscapes": _open_cityscapes}
    if kind not in openers or not path:
        raise ValueError(f"the data set must be {_KINDS}. Received: {spec!r}")
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder")
    return openers[kind](spec, root, split)


def resized(source: MaskSource, size: tuple[int, int]) -> MaskSource:
    """The same images and masks at another size; masks without interpolation.

    Args:
        source: images and masks.
        size: height and width in pixels.
    """

    def read(index: Tensor) -> tuple[Tensor, Tensor]:
        image, mask = source.read(index)
        image = tf.image.resize(image, size, "bilinear", antialias=True)
        mask = tf.image.resize(mask[..., None], size, "nearest")[..., 0]
        return tf.cast(tf.round(image), tf.uint8), mask

    return dataclasses.replace(source, read=read)


def _open_folder(spec: str, root: pathlib.Path, split: str) -> MaskSource:
    folder = root / split if (root / split / "images").is_dir() else root
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
    return _make(spec, split, images, masks, names, np.arange(len(names)))


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
    return _make(spec, split, images, masks, tuple(_VOC.split()), np.arange(21))


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
    names = tuple(_CITYSCAPES.split())
    return _make(spec, split, images, masks, names, np.array(_CITYSCAPES_IDS))


def _make(
    spec: str,
    split: str,
    images: Sequence[pathlib.Path],
    masks: Sequence[pathlib.Path],
    class_names: Sequence[str],
    values: np.ndarray,
) -> MaskSource:
    """`values`: of each class, its value in the masks; all others do not count."""
    if not images:
        raise ValueError(f"there is no image of the split {split!r}")
    for mask in masks:
        if not os.path.exists(mask):
            raise ValueError(f"the mask {mask} is missing")
    _check_headers(images, masks)
    image_paths, mask_paths = (tf.constant([str(x) for x in paths]) for paths in (images, masks))
    table = tf.constant(_table(values))

    def read(index: Tensor) -> tuple[Tensor, Tensor]:
        encoded = tf.io.read_file(image_paths[index])
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        encoded = tf.io.read_file(mask_paths[index])
        # TensorFlow would turn palette indices into their colours.
        mask = tf.numpy_function(_decode_mask, [encoded], tf.uint8, stateful=False)
        mask = tf.cast(tf.ensure_shape(mask, (None, None)), tf.int32)
        return tf.ensure_shape(image, (None, None, 3)), tf.gather(table, mask)

    return MaskSource(spec, len(images), read, lambda index: str(images[index]), tuple(class_names))


def _check_headers(images: Sequence[pathlib.Path], masks: Sequence[pathlib.Path]) -> None:
    """Finds what would otherwise end a run in its middle; no pixel is decoded."""
    from PIL import Image

    for image_path, mask_path in zip(images, masks, strict=True):
        with Image.open(image_path) as image, Image.open(mask_path) as mask:
            if image.size != mask.size:
                raise ValueError(f"{image_path} is of {image.size} pixels, its mask of {mask.size}")
            if mask.mode not in ("L", "P"):
                raise ValueError(f"{mask_path} must have one channel of 8 bits, not {mask.mode}")


def _table(values: np.ndarray) -> np.ndarray:
    """`(256,)` int32: a mask's value to its class, the place in `values`, or to 255."""
    table = np.full(256, IGNORED, np.int32)
    table[values] = np.arange(len(values))
    return table


def _open_tfds(spec: str, builder, split: str) -> MaskSource:
    import tensorflow_datasets as tfds

    features = builder.info.features
    known = [names for names in _TFDS_FEATURES if set(names) <= set(features)]
    if not known:
        names = " or ".join(" and ".join(names) for names in _TFDS_FEATURES)
        raise ValueError(f"TFDS data set {builder.name!r} has no features {names}")
    image_name, mask_name = known[0]
    records = split_records(builder, split)
    partial = tfds.features.FeaturesDict({name: features[name] for name in known[0]})

    def read(index: Tensor, table: np.ndarray) -> tuple[Tensor, Tensor]:
        example = partial.deserialize_example(read_record(records, index))
        mask = tf.cast(example[mask_name][..., 0], tf.int32)
        return example[image_name], tf.gather(tf.constant(table), mask)

    if builder.name == "cityscapes":
        class_names, values = tuple(_CITYSCAPES.split()), np.array(_CITYSCAPES_IDS)
    elif builder.name == "scenes":
        class_names = ("background", *features["label"].names)
        values = np.arange(len(class_names))
    else:
        data = tf.data.Dataset.range(len(records))
        data = data.map(lambda i: _highest(read(i, np.arange(256))[1]), tf.data.AUTOTUNE)
        highest = max(data.as_numpy_iterator(), default=0)
        class_names = tuple(f"class {number}" for number in range(highest + 1))
        values = np.arange(len(class_names))
    table = _table(values)
    return MaskSource(
        spec, len(records), lambda index: read(index, table), records.describe, class_names
    )


def _highest(mask: Tensor) -> Tensor:
    return tf.reduce_max(tf.where(mask == IGNORED, 0, mask))
