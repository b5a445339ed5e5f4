"""Random resized crops with their coordinates, and flips. Every function is pure."""

import math

import tensorflow as tf

from pixpro_keras.batch import Tensor

_TRIES = 10


def random_resized_crop_box(
    seed: Tensor,
    height: Tensor,
    width: Tensor,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draws a crop as torchvision's `RandomResizedCrop` does.

    Up to ten times an area (uniform, as a share of the image's) and an aspect ratio (log-uniform)
    are drawn; the first box that fits is placed uniformly. If none fits, the largest central box
    whose ratio is in the range is taken.

    Args:
        seed: `(2,)` integers.
        height: scalar int32, of the image.
        width: scalar int32, of the image.
        area: smallest and largest share of the image's area.
        ratio: smallest and largest width / height.

    Returns:
        `(top, left, box height, box width)`, scalar int32.
    """
    # Columns: area, ratio, top, left.
    draws = tf.random.stateless_uniform((_TRIES, 4), seed)
    image_height, image_width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    target = image_height * image_width * (area[0] + (area[1] - area[0]) * draws[:, 0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = tf.exp(low + (high - low) * draws[:, 1])
    widths = tf.cast(tf.round(tf.sqrt(target * aspect)), tf.int32)
    heights = tf.cast(tf.round(tf.sqrt(target / aspect)), tf.int32)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)

    first = tf.argmax(fits, output_type=tf.int32)
    box_height, box_width = heights[first], widths[first]
    top = _place(draws[first, 2], height - box_height)
    left = _place(draws[first, 3], width - box_width)

    whole = image_width / image_height
    center_width = tf.where(whole > ratio[1], tf.round(image_height * ratio[1]), image_width)
    center_height = tf.where(whole < ratio[0], tf.round(image_width / ratio[0]), image_height)
    center_width = tf.minimum(tf.cast(center_width, tf.int32), width)
    center_height = tf.minimum(tf.cast(center_height, tf.int32), height)
    found = tf.reduce_any(fits)
    return (
        tf.where(found, top, (height - center_height) // 2),
        tf.where(found, left, (width - center_width) // 2),
        tf.where(found, box_height, center_height),
        tf.where(found, box_width, center_width),
    )


def _place(draw: Tensor, room: Tensor) -> Tensor:
    """A whole number in 0..room, uniform."""
    return tf.cast(draw * tf.cast(room + 1, tf.float32), tf.int32)


def crop_and_resize(
    image: Tensor, box: tuple[Tensor, Tensor, Tensor, Tensor], size: int
) -> tuple[Tensor, Tensor]:
    """Cuts a box out and scales it to a square, bilinearly with antialiasing as PIL does.

    Args:
        image: `(H, W, 3)`, any number type.
        box: `(top, left, height, width)` in pixels, inside the image.
        size: side of the square in pixels.

    Returns:
        `(size, size, 3)` float32 in the image's own range, and the coordinates `(4,)` of the batch
        contract.
    """
    top, left, box_height, box_width = box
    shape = tf.shape(image)
    crop = _resize(tf.slice(image, [top, left, 0], [box_height, box_width, 3]), size)
    # A side of one pixel has no extent to normalise by.
    last_x = tf.cast(tf.maximum(shape[1] - 1, 1), tf.float32)
    last_y = tf.cast(tf.maximum(shape[0] - 1, 1), tf.float32)
    coord = tf.stack(
        [
            tf.cast(left, tf.float32) / last_x,
            tf.cast(top, tf.float32) / last_y,
            tf.cast(left + box_width - 1, tf.float32) / last_x,
            tf.cast(top + box_height - 1, tf.float32) / last_y,
        ]
    )
    return crop, coord


def _resize(image: Tensor, size: int) -> Tensor:
    """`tf.image.resize(image, (size, size), antialias=True)`: the same numbers, sooner.

    The kernel behind it adds up whole rows at a time, but goes through columns pixel by pixel. So
    each axis has its turn as the rows of a matrix; that takes two thirds of the time.
    """
    shape = tf.shape(image)
    height, width = shape[0], shape[1]
    rows = _resize_rows(tf.reshape(image, (height, width * 3)), size)
    columns = tf.transpose(tf.reshape(rows, (size, width, 3)), (1, 2, 0))
    columns = _resize_rows(tf.reshape(columns, (width, 3 * size)), size)
    return tf.transpose(tf.reshape(columns, (size, 3, size)), (2, 0, 1))


def _resize_rows(matrix: Tensor, size: int) -> Tensor:
    """`(n, m)` to `(size, m)` by a triangle filter, which widens when it scales down."""
    scale = size / tf.cast(tf.shape(matrix)[0], tf.float32)
    resized = tf.raw_ops.ScaleAndTranslate(
        images=matrix[None, :, None, :],
        size=[size, 1],
        scale=tf.stack([scale, 1.0]),
        translation=[0.0, 0.0],
        kernel_type="triangle",
        antialias=True,
    )
    return resized[0, :, 0, :]


def random_flip(
    image: Tensor, coord: Tensor, seed: Tensor, probability: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Mirrors left and right; the coordinates' `x1` and `x2` change places with the pixels."""
    flips = tf.random.stateless_uniform((), seed) < probability
    image = tf.cond(flips, lambda: tf.reverse(image, axis=[1]), lambda: image)
    return image, tf.where(flips, tf.gather(coord, [2, 1, 0, 3]), coord)
