"""Input pipeline of detection: images with boxes, and masks if asked for, to batches."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.data import python_ops
from pixpro_keras.data.broken_images import BrokenImages, first_readable, require_size
from pixpro_keras.data.decoding import decode
from pixpro_keras.data.sampler import CANDIDATES, Sampler, shuffled_index
from pixpro_keras.data.transforms.resize import resize_bilinear
from pixpro_keras.detection import instance_masks
from pixpro_keras.detection.box_source import BoxSource
from pixpro_keras.detection.canvases import Canvases, plan_canvases
from pixpro_keras.types import Batch, Tensor
from pixpro_keras.utils import checks

# A batch is a dict. M is `max_boxes`; images are padded to a canvas, below and to the right.
IMAGE = "image"  # (B, H, W, 3) float32, preprocessed; the padding is 0
SIZE = "size"  # (B, 2) float32: height and width of what is not padding
BOXES = "boxes"  # (B, M, 4) float32, in pixels of the scaled image; padded with 0
CLASSES = "classes"  # (B, M) int32; padded with -1
MASKS = "masks"  # (B, M, 112, 112) uint8, each of its own box; only if asked for
SEED = "seed"  # (B, 2) int32; decides which anchors and proposals are sampled


@dataclasses.dataclass(frozen=True)
class BoxConfig:
    """Configuration of training images.

    Attributes:
        short_sides: short sides in pixels; an image is scaled to one of them at random.
        max_side: longest side in pixels; it takes precedence over the short side.
        max_boxes: M, objects per image; further ones are ignored.
        with_masks: if True, batches have masks.
        seed: seed of order, scale and flips.
        num_canvases: largest number of sizes to which images are padded. Each is traced once; more
            sizes need less padding.

    Example:
        ```python
        from pixpro_keras.detection.box_pipeline import BoxConfig

        config = BoxConfig(short_sides=(480, 512), max_side=800, with_masks=True)
        ```
    """

    short_sides: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    max_side: int = 1333
    max_boxes: int = 100
    with_masks: bool = False
    seed: int = 0
    num_canvases: int = 12

    def __post_init__(self):
        """Checks the values."""
        if not self.short_sides or min(self.short_sides) < 1:
            raise ValueError(
                f"`short_sides` must be positive. Received: short_sides={self.short_sides}."
            )
        # At least the largest of `short_sides`.
        checks.at_least("max_side", self.max_side, max(self.short_sides))
        checks.positive("max_boxes", self.max_boxes)
        checks.positive("num_canvases", self.num_canvases)


def scaled_size(size: Tensor, short_side: Tensor, max_side: int) -> tuple[Tensor, Tensor]:
    """Size of an image whose short side is scaled to a length, unless the long one gets too long.

    Args:
        size: `(..., 2)`. Height and width in pixels.
        short_side: length of the short side in pixels; a scalar.
        max_side: longest length of the long side in pixels.

    Returns:
        Height and width, `(..., 2)` int32, and the factors by which they changed, `(..., 2)` float32.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.detection.box_pipeline import scaled_size

        size, scales = scaled_size(tf.constant([100, 400]), 80, max_side=200)
        assert size.numpy().tolist() == [50, 200]
        ```
    """
    sides = tf.cast(size, tf.float32)
    short = tf.reduce_min(sides, axis=-1, keepdims=True)
    long = tf.reduce_max(sides, axis=-1, keepdims=True)
    scale = tf.minimum(tf.cast(short_side, tf.float32) / short, float(max_side) / long)
    scaled = tf.maximum(tf.round(sides * scale), 1.0)
    return tf.cast(scaled, tf.int32), scaled / sides


def decode_image(source: BoxSource, index: Tensor) -> Tensor:
    """Decodes an image of a source, `(H, W, 3)` uint8, and checks its size against the source's.

    Args:
        source: images with boxes.
        index: index of the image, scalar int64.
    """
    image = decode(source.read(index))
    annotated = tf.constant(source.sizes)[index]
    return require_size(image, annotated, "annotation", source.describe, index)


def count_broken(source: BoxSource, max_share: float) -> BrokenImages:
    """Makes the count of a source's images that cannot be decoded; another size than annotated is an error.

    Args:
        source: images with boxes.
        max_share: share of the images that may be broken.
    """
    read = functools.partial(decode_image, source)
    return BrokenImages(dataclasses.replace(source, read=read), max_share)


def pad_image(image: Tensor, size: Tensor) -> Tensor:
    """Pads a preprocessed image with zeros below and to the right.

    Args:
        image: `(h, w, 3)`.
        size: height and width of the result, `(2,)` int32.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.detection.box_pipeline import pad_image

        assert pad_image(tf.ones((40, 60, 3)), (64, 64)).shape == (64, 64, 3)
        ```
    """
    missing = size - tf.shape(image)[:2]
    return tf.pad(image, [[0, missing[0]], [0, missing[1]], [0, 0]])


def make_box_batches(
    source: BoxSource,
    config: BoxConfig,
    *,
    global_batch_size: int,
    replica_batch_size: int | None = None,
    preprocess: Callable[[Tensor], Tensor],
    start_step: int = 0,
    input_pipeline_id: int = 0,
    num_input_pipelines: int = 1,
    broken: BrokenImages | None = None,
) -> tf.data.Dataset:
    """Makes an endless data set of batches from a step on, in slices of `Sampler`.

    All images of a step have similar shapes and scales that share a canvas, to which they are
    padded: see `canvases`. Every image gets all scales equally often. A pass takes the whole
    batches of each group of images.

    Args:
        source: images with boxes, as `for_training` returns them.
        config: scales, and number of canvases.
        global_batch_size: images per step of all machines together.
        replica_batch_size: images in each batch of this data set; None is this machine's share.
        preprocess: function from RGB in 0..255 to the backbone's convention.
        start_step: step of the first batch.
        input_pipeline_id: number of this machine, from 0.
        num_input_pipelines: number of machines.
        broken: count, from `count_broken`, of images that cannot be decoded and are replaced by
            others; without it, such an image ends the data set.

    Returns:
        Data set of dicts of `IMAGE`, `SIZE`, `BOXES`, `CLASSES`, `SEED` and, with masks, `MASKS`.

    Raises:
        ValueError: if the source has fewer images than a batch, or batch sizes do not divide.

    Example:
        ```python
        import numpy as np
        import tensorflow as tf
        from pixpro_keras.detection.box_pipeline import BoxConfig, make_box_batches
        from pixpro_keras.detection.box_source import COCO, BoxSource
        from pixpro_keras.detection.objects import make_objects

        image = tf.io.encode_png(tf.zeros((40, 60, 3), tf.uint8)).numpy()
        source = BoxSource(
            "black",
            lambda index: tf.constant([image] * 4)[index],
            str,
            sizes=np.array([[40, 60]] * 4, np.int32),
            objects=[make_objects("black", (40, 60), [[0, 0, 9, 9]], [0], [False])] * 4,
            class_names=("corner",),
            image_ids=range(4),
            class_ids=[1],
            metric=COCO,
        )
        data = make_box_batches(
            source,
            BoxConfig(short_sides=(32,), max_side=64),
            global_batch_size=2,
            preprocess=lambda image: image / 255,
        )
        assert next(iter(data))["image"].shape == (2, 32, 64, 3)
        ```
    """
    sampler = Sampler(
        source.num_examples,
        global_batch_size,
        config.seed,
        replica_batch_size,
        input_pipeline_id,
        num_input_pipelines,
    )
    short_sides = sorted(config.short_sides)
    canvases = plan_canvases(
        source.sizes, short_sides, config.max_side, config.num_canvases, global_batch_size
    )
    logging.log_first_n(
        logging.INFO,
        "Padding takes %.1f %% of the images, on average; canvases: %s",
        1,
        100 * canvases.padding,
        ", ".join(f"{height} x {width}" for height, width in canvases.sizes),
    )
    scales = _scales(canvases)
    load = _objects_loader(source, config)
    crowded = sum(len(one.boxes) > config.max_boxes for one in source.objects)
    if crowded:
        logging.warning("%d images have more than %d boxes", crowded, config.max_boxes)

    def sample(position: Tensor) -> dict[str, Tensor]:
        index, group = _grouped_index(sampler, canvases.groups, position)
        if broken is None:
            image = decode_image(source, index)
        else:
            image, index = first_readable(
                lambda index: (decode_image(source, index), index),
                lambda attempt: _grouped_index(sampler, canvases.groups, position, attempt)[0],
                broken.report,
            )
        # Seed of the step instead of `sample_seed`, which is per position: all machines draw the same scale.
        step_seed = tf.stack([~tf.constant(sampler.seed, tf.int64), position // global_batch_size])
        drawn = tf.random.stateless_uniform((), step_seed, 0, len(short_sides), tf.int32)
        first, count, number = tf.unstack(scales[group, drawn])
        seed = sampler.sample_seed(position)
        image, entry = _augment(image, load(index), config, seed, short_sides, first, count)
        entry[SEED] = tf.cast(seed % 2**31, tf.int32)
        entry[IMAGE] = pad_image(preprocess(image), tf.constant(canvases.sizes)[number])
        if len(canvases.sizes) == 1:  # TPUs need static shapes.
            entry[IMAGE] = tf.ensure_shape(entry[IMAGE], (*canvases.sizes[0], 3))
        return entry

    return sampler.batches(sample, start_step=start_step).prefetch(2)


def _scales(canvases: Canvases) -> Tensor:
    """Scales that share a canvas, `(G, S, 3)`.

    For each group and scale: first scale with the same canvas, number of such scales, and canvas.
    """
    rows = []
    for numbers in canvases.numbers:
        same = numbers[:, None] == numbers  # Scales that share a canvas are consecutive.
        rows.append(np.stack([same.argmax(1), same.sum(1), numbers], axis=1))
    return tf.constant(np.stack(rows), tf.int32)


def _grouped_index(
    sampler: Sampler, groups: Sequence[np.ndarray], position: Tensor, attempt: Tensor | int = 0
) -> tuple[Tensor, Tensor]:
    """Index and group of the image at a position; all images of a step are of one group.

    Attempts above 0 return other images of the group, in place of unreadable ones.
    """
    batch_size = sampler.global_batch_size
    counts = np.array([len(group) for group in groups])
    steps = counts // batch_size  # in a pass
    ends = np.cumsum(steps)
    step, row = position // batch_size, position % batch_size
    pass_number = step // ends[-1]
    turn = shuffled_index(step % ends[-1], pass_number, ends[-1], sampler.seed)
    group = tf.reduce_sum(tf.cast(turn >= ends, tf.int32))
    within = (turn - tf.gather(ends - steps, group)) * batch_size + row
    count = tf.gather(counts, group)
    within = (within + attempt * tf.maximum(count // CANDIDATES, 1)) % count
    within = shuffled_index(within, pass_number, count, sampler.seed)
    first = tf.gather(np.cumsum([0, *counts])[:-1], group)
    return tf.gather(np.concatenate(groups), first + within), group


def _objects_loader(source: BoxSource, config: BoxConfig) -> Callable[[Tensor], list[Tensor]]:
    """Makes a function from an index to boxes `(M, 4)`, classes `(M,)` and optional masks `(M, 112, 112)`."""
    count, size = config.max_boxes, instance_masks.CROP_SIZE

    def load(index: np.ndarray) -> list[np.ndarray]:
        objects = source.objects[int(index)]
        num = min(len(objects.boxes), count)
        boxes, classes = np.zeros((count, 4), np.float32), np.full(count, -1, np.int32)
        boxes[:num], classes[:num] = objects.boxes[:num], objects.classes[:num]
        if not config.with_masks:
            return [boxes, classes]
        crops = np.zeros((count, size, size), np.uint8)
        height, width = map(int, source.sizes[index])
        assert objects.segmentations is not None  # Checked by `for_training`.
        for number in range(num):
            crops[number] = instance_masks.crop(
                objects.segmentations[number], boxes[number], height, width
            )
        return [boxes, classes, crops]

    signature = [
        ((count, 4), tf.float32),
        ((count,), tf.int32),
        ((count, size, size), tf.uint8),
    ][: 3 if config.with_masks else 2]
    return lambda index: python_ops.load_arrays(load, index, signature)


def _augment(
    image: Tensor,
    objects: list[Tensor],
    config: BoxConfig,
    seed: Tensor,
    short_sides: Sequence[int],
    first: Tensor,
    count: Tensor,
) -> tuple[Tensor, Batch]:
    """Scales an image and mirrors it at random.

    The scale is one of `short_sides[first : first + count]`.

    Returns:
        Image, float32 in 0..255, and the other entries of the batch.
    """
    boxes, classes, *crops = objects
    draws = tf.random.stateless_uniform((2,), tf.cast(seed, tf.int64))
    chosen = tf.cast(draws[0] * tf.cast(count, tf.float32), tf.int32)
    short_side = tf.constant(short_sides)[first + chosen]
    size, scales = scaled_size(tf.shape(image)[:2], short_side, config.max_side)
    image = resize_bilinear(image, size)
    boxes = boxes * tf.reverse(tf.tile(scales, [2]), [0])
    flips = draws[1] < 0.5
    image = tf.cond(flips, lambda: tf.reverse(image, [1]), lambda: image)
    width = tf.cast(size[1], tf.float32)
    mirrored = tf.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
    mirrored = tf.where(classes[:, None] >= 0, mirrored, 0.0)
    entry = {
        SIZE: tf.cast(size, tf.float32),
        BOXES: tf.where(flips, mirrored, boxes),
        CLASSES: classes,
    }
    if crops:
        entry[MASKS] = tf.cond(flips, lambda: tf.reverse(crops[0], [2]), lambda: crops[0])
    return image, entry
