"""Random resized crops with their coordinates, and flips, as pure functions."""

import math
from collections.abc import Callable

import tensorflow as tf

from pixpro_keras.types import Tensor

# Top, left, height and width in pixels.
Box = tuple[Tensor, Tensor, Tensor, Tensor]

_TRIES = 10
_KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}


def random_resized_crop_box(
    seed: Tensor,
    height: Tensor,
    width: Tensor,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    is_good: Callable[[Box], Tensor] | None = None,
) -> Box:
    """Draws a crop as torchvision's `RandomResizedCrop` does.

    An area (uniform, as a fraction of the image) and an aspect ratio (log-uniform) are drawn up to
    ten times. The first box that fits is placed uniformly. If none fits, the result is the largest
    central box whose ratio is in the range.

    Args:
        seed: `(2,)` integers.
        height: height of the image in pixels, scalar int32.
        width: width of the image in pixels, scalar int32.
        area: smallest and largest area, as fractions of the image.
        ratio: smallest and largest width / height.
        is_good: function of ten boxes, each coordinate `(10,)`, to `(10,)` booleans: which boxes are
            acceptable. If none is, another box is drawn without this condition.

    Returns:
        `(top, left, box height, box width)`, scalar int32.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.transforms import random_resized_crop_box

        top, left, height, width = random_resized_crop_box(tf.constant([0, 1]), 40, 60)
        assert 0 <= top <= 40 - height and 0 <= left <= 60 - width
        ```
    """
    if is_good is not None:
        again = tf.random.fold_in(seed, 1)
        tries, found = _draw_boxes(seed, height, width, area, ratio, is_good)
        other = random_resized_crop_box(again, height, width, area, ratio)
        return tuple(tf.where(found, one, two) for one, two in zip(tries, other, strict=True))
    box, found = _draw_boxes(seed, height, width, area, ratio, None)
    center = _central_box(height, width, ratio)
    return tuple(tf.where(found, one, two) for one, two in zip(box, center, strict=True))


def overlap_share(boxes: Box, other: Box) -> Tensor:
    """Fraction of each box's area that lies inside another box.

    Args:
        boxes: `(top, left, height, width)`, of any one shape.
        other: one box, `(top, left, height, width)`, scalars.

    Example:
        ```python
        from pixpro_keras.data.transforms import overlap_share

        assert float(overlap_share((0, 0, 10, 10), (0, 5, 10, 10))) == 0.5
        ```
    """
    top, left, height, width = boxes
    rows = tf.minimum(top + height, other[0] + other[2]) - tf.maximum(top, other[0])
    columns = tf.minimum(left + width, other[1] + other[3]) - tf.maximum(left, other[1])
    common = tf.maximum(rows, 0) * tf.maximum(columns, 0)
    return tf.cast(common, tf.float32) / tf.cast(height * width, tf.float32)


def _draw_boxes(
    seed: Tensor,
    height: Tensor,
    width: Tensor,
    area: tuple[float, float],
    ratio: tuple[float, float],
    is_good: Callable[[Box], Tensor] | None,
) -> tuple[Box, Tensor]:
    """First of ten random boxes that fits and is accepted, and True if there is one."""
    # Columns: area, ratio, top, left.
    draws = tf.random.stateless_uniform((_TRIES, 4), seed)
    image_height, image_width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    target = image_height * image_width * (area[0] + (area[1] - area[0]) * draws[:, 0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = tf.exp(low + (high - low) * draws[:, 1])
    widths = tf.cast(tf.round(tf.sqrt(target * aspect)), tf.int32)
    heights = tf.cast(tf.round(tf.sqrt(target / aspect)), tf.int32)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)

    tops, lefts = _place(draws[:, 2], height - heights), _place(draws[:, 3], width - widths)
    boxes = (tops, lefts, heights, widths)
    if is_good is not None:
        fits &= is_good(boxes)
    first = tf.argmax(fits, output_type=tf.int32)
    return tuple(side[first] for side in boxes), tf.reduce_any(fits)


def _central_box(height: Tensor, width: Tensor, ratio: tuple[float, float]) -> Box:
    """Largest central box with a ratio in the range."""
    image_height, image_width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    whole = image_width / image_height
    center_width = tf.where(whole > ratio[1], tf.round(image_height * ratio[1]), image_width)
    center_height = tf.where(whole < ratio[0], tf.round(image_width / ratio[0]), image_height)
    center_width = tf.minimum(tf.cast(center_width, tf.int32), width)
    center_height = tf.minimum(tf.cast(center_height, tf.int32), height)
    top, left = (height - center_height) // 2, (width - center_width) // 2
    return top, left, center_height, center_width


def _place(draw: Tensor, room: Tensor) -> Tensor:
    """Draws a uniform integer in 0..room."""
    return tf.cast(draw * tf.cast(room + 1, tf.float32), tf.int32)


def crop_and_resize(
    image: Tensor, box: Box, size: int, interpolation: str = "bilinear"
) -> tuple[Tensor, Tensor]:
    """Crops a box and resizes it to a square, with antialiasing as in PIL.

    Args:
        image: `(H, W, 3)`, any numeric dtype.
        box: `(top, left, height, width)` in pixels, inside the image.
        size: side of the square in pixels.
        interpolation: `"bilinear"` or `"bicubic"`.

    Returns:
        `(size, size, 3)` float32 in the image's own range, and the coordinates `(4,)` of the batch
        contract.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.transforms import crop_and_resize

        image = tf.zeros((41, 61, 3), tf.uint8)
        crop, coord = crop_and_resize(image, (0, 0, 21, 31), size=16)
        assert crop.shape == (16, 16, 3) and coord.numpy().tolist() == [0.0, 0.0, 0.5, 0.5]
        ```
    """
    top, left, box_height, box_width = box
    shape = tf.shape(image)
    crop = _resize(tf.slice(image, [top, left, 0], [box_height, box_width, 3]), size, interpolation)
    # A side of one pixel has no extent to normalize by.
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


def _resize(image: Tensor, size: int, interpolation: str) -> Tensor:
    """Equals `tf.image.resize(image, (size, size), antialias=True)` in two thirds of the time.

    TensorFlow's kernel processes whole rows at once but columns pixel by pixel. So each axis in turn is
    resized as the rows of a matrix.
    """
    shape = tf.shape(image)
    height, width = shape[0], shape[1]
    kernel = _KERNELS[interpolation]
    rows = _resize_rows(tf.reshape(image, (height, width * 3)), size, kernel)
    columns = tf.transpose(tf.reshape(rows, (size, width, 3)), (1, 2, 0))
    columns = _resize_rows(tf.reshape(columns, (width, 3 * size)), size, kernel)
    image = tf.transpose(tf.reshape(columns, (size, 3, size)), (2, 0, 1))
    # The cubic kernel overshoots.
    return tf.clip_by_value(image, 0.0, 255.0) if interpolation == "bicubic" else image


def _resize_rows(matrix: Tensor, size: int, kernel: str) -> Tensor:
    """Resizes `(n, m)` to `(size, m)` with antialiasing."""
    scale = size / tf.cast(tf.shape(matrix)[0], tf.float32)
    resized = tf.raw_ops.ScaleAndTranslate(
        images=matrix[None, :, None, :],
        size=[size, 1],
        scale=tf.stack([scale, 1.0]),
        translation=[0.0, 0.0],
        kernel_type=kernel,
        antialias=True,
    )
    return resized[0, :, 0, :]


def random_flip(
    image: Tensor, coord: Tensor, seed: Tensor, probability: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Flips an image horizontally at random, and swaps `x1` and `x2` of its coordinates.

    Args:
        image: `(H, W, 3)`.
        coord: `(4,)`. Coordinates of the crop.
        seed: `(2,)` integers.
        probability: probability of a flip.

    Returns:
        Image and coordinates.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.transforms import random_flip

        coord = tf.constant([0.0, 0.0, 1.0, 1.0])
        _, coord = random_flip(tf.zeros((4, 4, 3)), coord, tf.constant([0, 1]), probability=1.0)
        assert coord.numpy().tolist() == [1.0, 0.0, 0.0, 1.0]
        ```
    """
    flips = tf.random.stateless_uniform((), seed) < probability
    image = tf.cond(flips, lambda: tf.reverse(image, axis=[1]), lambda: image)
    return image, tf.where(flips, tf.gather(coord, [2, 1, 0, 3]), coord)
