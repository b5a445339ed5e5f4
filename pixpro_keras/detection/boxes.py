"""Boxes: `x1, y1, x2, y2` in pixels, where the image's upper left corner is (0, 0)."""

import math

import tensorflow as tf
from keras import ops

from pixpro_keras.types import Tensor

# Largest log of a box's scaling: from a box of 16 pixels to one of 1000. exp() would overflow.
MAX_LOG_SCALE = math.log(1000.0 / 16)


def box_area(boxes: Tensor) -> Tensor:
    """Areas in square pixels; 0 for boxes whose corners are swapped.

    Args:
        boxes: `(..., 4)`.

    Returns:
        `(...)`.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import box_area

        print(box_area(np.array([[0.0, 0.0, 10.0, 20.0]])))  # 200
        ```
    """
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of each box with each other box.

    Args:
        boxes1: `(..., M, 4)`.
        boxes2: `(..., N, 4)`.

    Returns:
        `(..., M, N)` in [0, 1]; 0 for two boxes without area.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import pairwise_iou

        boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10]], "float32")
        print(pairwise_iou(boxes, boxes))  # 1 on the diagonal, else 1/3
        ```
    """
    boxes1_by_row, boxes2_by_column = boxes1[..., :, None, :], boxes2[..., None, :, :]
    low = ops.maximum(boxes1_by_row[..., :2], boxes2_by_column[..., :2])
    high = ops.minimum(boxes1_by_row[..., 2:], boxes2_by_column[..., 2:])
    intersection = box_area(ops.concatenate([low, high], axis=-1))
    union = box_area(boxes1)[..., :, None] + box_area(boxes2)[..., None, :] - intersection
    return tf.math.divide_no_nan(intersection, union)


def encode_boxes(boxes: Tensor, anchors: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Deltas from anchors to boxes, the targets of box regression.

        w_x (x - x_a) / W_a,  w_y (y - y_a) / H_a,  w_w log(W / W_a),  w_h log(H / H_a)

    with (x, y) the center and W, H the sides.

    Args:
        boxes: `(..., 4)`.
        anchors: `(..., 4)`, with area.
        weights: `w_x, w_y, w_w, w_h`.

    Returns:
        `(..., 4)`; 0 for boxes without area, such as padding.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import decode_boxes, encode_boxes

        box, anchor = np.array([[[5, 0, 15, 10]], [[0, 0, 16, 16]]], "float32")
        deltas = encode_boxes(box, anchor, (1.0, 1.0, 1.0, 1.0))
        print(decode_boxes(deltas, anchor, (1.0, 1.0, 1.0, 1.0)))  # the box
        ```
    """
    centers, sides = _centers_and_sides(boxes)
    anchor_centers, anchor_sides = _centers_and_sides(anchors)
    anchor_sides = ops.maximum(anchor_sides, 1e-6)
    shift = (centers - anchor_centers) / anchor_sides
    log_scale = ops.log(ops.maximum(sides, 1e-6) / anchor_sides)
    deltas = ops.concatenate([shift, log_scale], axis=-1)
    deltas = deltas * ops.convert_to_tensor(weights, "float32")
    return ops.where(box_area(boxes)[..., None] > 0, deltas, 0.0)


def decode_boxes(deltas: Tensor, anchors: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Boxes from predicted deltas; the inverse of `encode_boxes`.

    Args:
        deltas: `(..., 4)`; the log of a scale factor is clipped at `MAX_LOG_SCALE`.
        anchors: `(..., 4)`.
        weights: `w_x, w_y, w_w, w_h`, as for `encode_boxes`.

    Returns:
        `(..., 4)` float32.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import decode_boxes

        anchor = np.array([[0.0, 0.0, 16.0, 16.0]], "float32")
        print(decode_boxes(np.zeros((1, 4)), anchor, (1.0, 1.0, 1.0, 1.0)))  # the anchor
        ```
    """
    deltas = ops.cast(deltas, "float32") / ops.convert_to_tensor(weights, "float32")
    anchor_centers, anchor_sides = _centers_and_sides(anchors)
    centers = deltas[..., :2] * anchor_sides + anchor_centers
    half = 0.5 * ops.exp(ops.minimum(deltas[..., 2:], MAX_LOG_SCALE)) * anchor_sides
    return ops.concatenate([centers - half, centers + half], axis=-1)


def clip_boxes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Clips boxes to their image.

    Args:
        boxes: `(B, N, 4)`.
        sizes: `(B, 2)`. Height and width of each image in pixels.

    Returns:
        `(B, N, 4)`.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import clip_boxes

        boxes = np.array([[[-5.0, 3.0, 90.0, 70.0]]], "float32")
        print(clip_boxes(boxes, np.array([[60.0, 80.0]], "float32")))  # 0, 3, 80, 60
        ```
    """
    limits = ops.stack([sizes[:, 1], sizes[:, 0], sizes[:, 1], sizes[:, 0]], axis=-1)
    return ops.minimum(ops.maximum(boxes, 0.0), limits[:, None])


def _centers_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centers and sides of boxes, `(..., 2)` each."""
    return 0.5 * (boxes[..., :2] + boxes[..., 2:]), boxes[..., 2:] - boxes[..., :2]
