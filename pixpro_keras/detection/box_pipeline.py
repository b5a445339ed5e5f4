"""From images with boxes to batches."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.detection import instance_masks
from pixpro_keras.detection.box_source import BoxSource
from pixpro_keras.types import Tensor

# A batch is a dict. M is `max_boxes`; images are padded to the canvas, below and to the right.
IMAGE = "image"  # (B, H, W, 3) float32, preprocessed; the padding is 0
SIZE = "size"  # (B, 2) float32: height and width of what is not padding
BOXES = "boxes"  # (B, M, 4) float32, in pixels of the scaled image; padded with 0
CLASSES = "classes"  # (B, M) int32; padded with -1
MASKS = "masks"  # (B, M, 112, 112) uint8, each of its own box; only if asked for
SEED = "seed"  # (B, 2) int32; decides which anchors and proposals are sampled

_CANVAS_STEP = 32  # the largest stride of a backbone


@dataclasses.dataclass(frozen=True)
class BoxConfig:
    """How training images are made.

    Attributes:
        short_sides: lengths in pixels of which an image's short side gets one at random.
        max_side: longest side in pixels; it wins over the short side.
        max_boxes: objects per image, M; of images with more, the first count.
        with_masks: whether batches have masks.
        seed: of order, scale and flips.
    """

    short_sides: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    max_side: int = 1333
    max_boxes: int = 100
    with_masks: bool = False
    seed: int = 0

    def __post_init__(self):
        """Refuses what cannot work."""
        if not self.short_sides or min(self.short_sides) < 1:
            raise ValueError(f"`short_sides` must be positive. Received: {self.short_sides}.")
        if self.max_side < max(self.short_sides):
            raise ValueError(
                f"`max_side` must be at least the largest of `short_sides`, {max(self.short_sides)}. "
                f"Received: max_side={self.max_side}."
            )
        if self.max_boxes < 1:
            raise ValueError(f"`max_boxes` must be positive. Received: {self.max_boxes}.")


def scaled_size(size: Tensor, short_side: Tensor, max_side: int) -> tuple[Tensor, Tensor]:
    """Size of an image whose short side is scaled to a length, unless the long one gets too long.

    Args:
        size: `(..., 2)`. Height and width in pixels.
        short_side: in pixels; a scalar.
        max_side: longest length of the long side in pixels.

    Returns:
        Height and width, `(..., 2)` int32, and the factors by which they changed, `(..., 2)` float32.
    """
    sides = tf.cast(size, tf.float32)
    short = tf.reduce_min(sides, axis=-1, keepdims=True)
    long = tf.reduce_max(sides, axis=-1, keepdims=True)
    scale = tf.minimum(tf.cast(short_side, tf.float32) / short, float(max_side) / long)
    scaled = tf.maximum(tf.round(sides * scale), 1.0)
    return tf.cast(scaled, tf.int32), scaled / sides


def make_canvas(sizes: np.ndarray, short_side: int, max_side: int) -> tuple[int, int]:
    """Height and width into which all of some images fit once they are scaled.

    Args:
        sizes: `(N, 2)`.
        short_side: the longest short side in pixels.
        max_side: longest side in pixels.
    """
    scaled, _ = scaled_size(sizes, short_side, max_side)
    height, width = (int(-(-side // _CANVAS_STEP) * _CANVAS_STEP) for side in scaled.numpy().max(0))
    return height, width


def shape_groups(sizes: np.ndarray, smallest: int) -> list[np.ndarray]:
    """Numbers of the wide and of the high images, since a batch has one canvas.

    Args:
        sizes: `(N, 2)`.
        smallest: images that a group must have; with fewer, there is one group.
    """
    is_high = sizes[:, 0] > sizes[:, 1]
    groups = [np.flatnonzero(~is_high), np.flatnonzero(is_high)]
    if min(map(len, groups)) < smallest:
        return [np.arange(len(sizes))]
    return groups


def decode_image(source: BoxSource, index: Tensor) -> Tensor:
    """An image of a source, `(H, W, 3)` uint8, whose size is what the source says."""
    image = tf.io.decode_image(source.read(index), channels=3, expand_animations=False)
    image = tf.ensure_shape(image, (None, None, 3))
    said = tf.constant(source.sizes)[index]
    same = tf.reduce_all(tf.equal(tf.shape(image)[:2], said))
    message = ["The image and its annotation differ in size:", tf.shape(image), said, index]
    with tf.control_dependencies([tf.debugging.Assert(same, message)]):
        return tf.identity(image)


def pad_image(image: Tensor, canvas: Tensor) -> Tensor:
    """A preprocessed image, enlarged with zeros below and to the right."""
    missing = canvas - tf.shape(image)[:2]
    return tf.pad(image, [[0, missing[0]], [0, missing[1]], [0, 0]])


def make_box_batches(
    source: BoxSource,
    config: BoxConfig,
    *,
    global_batch_size: int,
    replica_batch_size: int,
    preprocess: Callable[[Tensor], Tensor],
    start_step: int = 0,
    input_pipeline_id: int = 0,
    num_input_pipelines: int = 1,
) -> tf.data.Dataset:
    """Endless batches from a step on, which only seed and step decide.

    All images of a step are wide or all are high, and share a canvas that fits the largest scale of
    their group: two shapes in all, or one where a group is smaller than a batch. A pass takes as many
    whole batches as each group has.

    Args:
        source: images with boxes, as `for_training` returns them.
        config: scales and padding.
        global_batch_size: images per step of all machines together (B).
        replica_batch_size: images in each batch of this data set.
        preprocess: from RGB in 0..255 to the backbone's convention.
        start_step: the step of the first batch.
        input_pipeline_id: number of this machine, from 0.
        num_input_pipelines: number of machines.

    Returns:
        Data set of the dicts that this module describes.
    """
    groups = shape_groups(source.sizes, global_batch_size)
    largest = max(config.short_sides)
    canvases = [make_canvas(source.sizes[g], largest, config.max_side) for g in groups]
    batches = np.array([len(group) // global_batch_size for group in groups])
    ends = np.cumsum(batches)
    members, first_members = np.concatenate(groups), np.cumsum([0, *map(len, groups)])[:-1]
    group_sizes = np.array([len(group) for group in groups])
    share = global_batch_size // num_input_pipelines
    load = _objects_loader(source, config)
    crowded = sum(len(one.boxes) > config.max_boxes for one in source.objects)
    if crowded:
        logging.warning("%d images have more than %d boxes", crowded, config.max_boxes)

    def example(place: Tensor) -> dict[str, Tensor]:
        step, row = place // share, input_pipeline_id * share + place % share
        number, turn = step // ends[-1], step % ends[-1]
        seed = tf.constant(config.seed, tf.int64)
        order_seed = tf.cast(tf.stack([seed, number]), tf.uint32)
        turn = tf.random.experimental.index_shuffle(turn, order_seed, ends[-1] - 1)
        group = tf.reduce_sum(tf.cast(turn >= ends, tf.int32))
        within = (turn - tf.gather(ends - batches, group)) * global_batch_size + row
        last = tf.gather(group_sizes, group) - 1
        within = tf.random.experimental.index_shuffle(within, order_seed, last)
        index = tf.gather(members, tf.gather(first_members, group) + within)
        position = step * global_batch_size + row
        image, entry = _augment(source, load, config, index, tf.stack([seed, position]))
        entry[SEED] = tf.cast(tf.stack([seed, position]) % 2**31, tf.int32)
        entry[IMAGE] = pad_image(preprocess(image), tf.gather(canvases, group))
        if len(groups) == 1:  # TPUs need all shapes at once
            entry[IMAGE] = tf.ensure_shape(entry[IMAGE], (*canvases[0], 3))
        return entry

    data = tf.data.Dataset.range(start_step * share, np.iinfo(np.int64).max)
    data = data.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return data.batch(replica_batch_size, drop_remainder=True).prefetch(2)


def _objects_loader(source: BoxSource, config: BoxConfig) -> Callable[[Tensor], list[Tensor]]:
    """Index to boxes `(M, 4)`, classes `(M,)` and, if asked for, masks `(M, 112, 112)`."""
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
        assert objects.segmentations is not None  # for_training has looked
        for number in range(num):
            crops[number] = instance_masks.crop(
                objects.segmentations[number], boxes[number], height, width
            )
        return [boxes, classes, crops]

    dtypes = [tf.float32, tf.int32, tf.uint8][: 3 if config.with_masks else 2]
    shapes = [(count, 4), (count,), (count, size, size)]

    def graph_load(index: Tensor) -> list[Tensor]:
        # Python, so that a million boxes are not constants of the graph.
        loaded = tf.numpy_function(load, [index], dtypes, stateful=False)
        return [tf.ensure_shape(x, shape) for x, shape in zip(loaded, shapes, strict=False)]

    return graph_load


def _augment(source, load, config: BoxConfig, index: Tensor, seed: Tensor):
    """A scaled and perhaps mirrored image, float32 in 0..255, and its entries of the batch."""
    image = decode_image(source, index)
    boxes, classes, *crops = load(index)
    draws = tf.random.stateless_uniform((2,), tf.cast(seed, tf.int64))
    choices = tf.constant(config.short_sides)
    short_side = choices[tf.cast(draws[0] * len(config.short_sides), tf.int32)]
    size, scales = scaled_size(tf.shape(image)[:2], short_side, config.max_side)
    image = tf.image.resize(image, size, "bilinear", antialias=True)
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
