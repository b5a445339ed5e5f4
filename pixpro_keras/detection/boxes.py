"""Boxes: `x1, y1, x2, y2` in pixels, where the image's first corner is (0, 0)."""

import math

import tensorflow as tf
from keras import ops

from pixpro_keras.types import Tensor

# Largest log of a box's growth: that of a box of 16 pixels to one of 1000. exp() would overflow.
MAX_LOG_GROWTH = math.log(1000.0 / 16)


def area(boxes: Tensor) -> Tensor:
    """Areas in square pixels, 0 of boxes whose corners are the wrong way round.

    Args:
        boxes: `(..., 4)`.

    Returns:
        `(...)`.
    """
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of each box with each other box.

    Args:
        boxes1: `(..., M, 4)`.
        boxes2: `(..., N, 4)`.

    Returns:
        `(..., M, N)` in [0, 1]; 0 for two boxes without area.
    """
    one, two = boxes1[..., :, None, :], boxes2[..., None, :, :]
    low = ops.maximum(one[..., :2], two[..., :2])
    high = ops.minimum(one[..., 2:], two[..., 2:])
    common = area(ops.concatenate([low, high], axis=-1))
    either = area(boxes1)[..., :, None] + area(boxes2)[..., None, :] - common
    return tf.math.divide_no_nan(common, either)


def encode(boxes: Tensor, anchors: Tensor, weights: tuple[float, ...]) -> Tensor:
    """What a network should predict to turn anchors into boxes.

        w_x (x - x_a) / W_a,  w_y (y - y_a) / H_a,  w_w log(W / W_a),  w_h log(H / H_a)

    with (x, y) the centre and W, H the sides.

    Args:
        boxes: `(..., 4)`.
        anchors: `(..., 4)`, with area.
        weights: `w_x, w_y, w_w, w_h`.

    Returns:
        `(..., 4)`; 0 where a box has no area, as padding has none.
    """
    centers, sides = _centers(boxes)
    anchor_centers, anchor_sides = _centers(anchors)
    anchor_sides = ops.maximum(anchor_sides, 1e-6)
    shift = (centers - anchor_centers) / anchor_sides
    growth = ops.log(ops.maximum(sides, 1e-6) / anchor_sides)
    deltas = ops.concatenate([shift, growth], axis=-1) * ops.convert_to_tensor(weights, "float32")
    return ops.where(area(boxes)[..., None] > 0, deltas, 0.0)


def decode(deltas: Tensor, anchors: Tensor, weights: tuple[float, ...]) -> Tensor:
    """The boxes that a network predicts; the inverse of `encode`.

    Args:
        deltas: `(..., 4)`; a growth beyond `MAX_LOG_GROWTH` is cut off.
        anchors: `(..., 4)`.
        weights: as for `encode`.

    Returns:
        `(..., 4)` float32.
    """
    deltas = ops.cast(deltas, "float32") / ops.convert_to_tensor(weights, "float32")
    anchor_centers, anchor_sides = _centers(anchors)
    centers = deltas[..., :2] * anchor_sides + anchor_centers
    half = 0.5 * ops.exp(ops.minimum(deltas[..., 2:], MAX_LOG_GROWTH)) * anchor_sides
    return ops.concatenate([centers - half, centers + half], axis=-1)


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes cut off at their image's border.

    Args:
        boxes: `(B, N, 4)`.
        sizes: `(B, 2)`. Height and width of each image in pixels.

    Returns:
        `(B, N, 4)`.
    """
    limits = ops.stack([sizes[:, 1], sizes[:, 0], sizes[:, 1], sizes[:, 0]], axis=-1)
    return ops.minimum(ops.maximum(boxes, 0.0), limits[:, None])


def _centers(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and sides: `(..., 2)` each."""
    return 0.5 * (boxes[..., :2] + boxes[..., 2:]), boxes[..., 2:] - boxes[..., :2]
