"""RoIAlign: features of boxes, sampled at exact places."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from keras import ops

from pixpro_keras.batch import Tensor


def roi_align(features: Tensor, boxes: Tensor, output_size: int, sampling_ratio: int = 1) -> Tensor:
    """Averages of bilinear samples in a grid of bins over each box, as detectron2's "aligned" form.

    The centre of cell (0, 0) lies at (0.5, 0.5). A sample up to one cell outside the map takes the
    value at the border; beyond that it is 0. Shapes are static and nothing loops over boxes.

    Args:
        features: `(B, H, W, C)`.
        boxes: `(B, R, 4)`. `x1, y1, x2, y2` in cells of the map, with x1 <= x2 and y1 <= y2.
        output_size: bins along each side, S.
        sampling_ratio: samples along each side of a bin, at least 1.

    Returns:
        `(B, R, S, S, C)` in the features' dtype. No gradient reaches the boxes.

    Raises:
        ValueError: if `output_size` or `sampling_ratio` is less than 1.

    Reference:
        He et al., ICCV 2017, arXiv:1703.06870, with the half-cell offset of detectron2's
        ROIAlignV2.
    """
    levels = ops.zeros((1, boxes.shape[1]), dtype="int32")
    return pyramid_roi_align([features], boxes, levels, output_size, sampling_ratio)


def pyramid_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor,
    levels: Tensor,
    output_size: int,
    sampling_ratio: int = 1,
) -> Tensor:
    """`roi_align` of boxes that each have a map of their own.

    Args:
        features: maps `(B, H, W, C)` of any sizes.
        boxes: `(B, R, 4)`. `x1, y1, x2, y2` in cells of the box's map.
        levels: `(B, R)` or `(1, R)` int32. Number of each box's map.
        output_size: bins along each side, S.
        sampling_ratio: samples along each side of a bin, at least 1.

    Returns:
        `(B, R, S, S, C)` in the features' dtype. No gradient reaches the boxes.

    Raises:
        ValueError: if `output_size` or `sampling_ratio` is less than 1.
    """
    if min(output_size, sampling_ratio) < 1:
        raise ValueError(
            "`output_size` and `sampling_ratio` must be at least 1. "
            f"Received: {output_size}, {sampling_ratio}."
        )
    channels = features[0].shape[-1]
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    num_boxes, points = boxes.shape[1], output_size * sampling_ratio
    # The maps lie one after the other: where each begins, and the sides of each box's own.
    sides = np.array([x.shape[1:3] for x in features], np.int32)
    firsts = np.cumsum([0, *sides.prod(axis=1)])[:-1].astype(np.int32)
    first, height, width = (ops.take(x, levels)[..., None] for x in (firsts, *sides.T))
    columns = _samples(boxes[..., 0], boxes[..., 2], points, ops.cast(width, "float32"))
    rows = _samples(boxes[..., 1], boxes[..., 3], points, ops.cast(height, "float32"))
    flat = ops.concatenate(
        [
            ops.reshape(x, (-1, h * w, channels))
            for x, (h, w) in zip(features, sides.tolist(), strict=True)
        ],
        axis=1,
    )
    samples = 0.0
    for row, row_weight in rows:
        for column, column_weight in columns:
            # One of the four cells around each sample: (B, R, P, P).
            cell = (first + row * width)[..., :, None] + column[..., None, :]
            weight = row_weight[..., :, None] * column_weight[..., None, :]
            values = tf.gather(flat, ops.reshape(cell, (-1, num_boxes * points**2)), batch_dims=1)
            weight = ops.reshape(weight, (-1, num_boxes * points**2, 1))
            samples = samples + values * ops.cast(weight, features[0].dtype)
    shape = (-1, num_boxes, output_size, sampling_ratio, output_size, sampling_ratio, channels)
    return ops.mean(ops.reshape(samples, shape), axis=(3, 5))


def _samples(start: Tensor, end: Tensor, points: int, size: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The two cells around each of some points spread evenly from start to end, with their weights.

    Args:
        start: `(B, R)`, in cells.
        end: `(B, R)`, in cells.
        points: number of points, P.
        size: `(B, R, 1)` or `(1, R, 1)` float32. Cells along the axis.

    Returns:
        The lower and the upper cell: `(B, R, P)` int32 and float32, each.
    """
    share = (ops.arange(points, dtype="float32") + 0.5) / points
    place = start[..., None] + (end - start)[..., None] * share - 0.5
    is_near = ops.cast((place >= -1.0) & (place <= size), "float32")
    place = ops.clip(place, 0.0, size - 1.0)
    low = ops.floor(place)
    high = ops.minimum(low + 1.0, size - 1.0)
    upper = (place - low) * is_near
    lower = (1.0 - (place - low)) * is_near
    return [(ops.cast(low, "int32"), lower), (ops.cast(high, "int32"), upper)]
