"""RoIAlign: features of boxes, sampled at exact places."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from keras import ops

from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = ["pyramid_roi_align", "roi_align"]


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

    Example:
        ```python
        import keras
        from pixpro_keras.layers import roi_align

        boxes = keras.ops.convert_to_tensor([[[0.0, 0.0, 7.0, 7.0], [1.5, 2.0, 3.0, 4.5]]])
        print(roi_align(keras.random.normal((1, 7, 7, 8)), boxes, 4).shape)  # (1, 2, 4, 4, 8)
        ```
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

    Example:
        ```python
        import keras
        from pixpro_keras.layers import pyramid_roi_align

        maps = [keras.random.normal((1, size, size, 8)) for size in (8, 4)]
        boxes = keras.ops.convert_to_tensor([[[0.0, 0.0, 7.0, 7.0], [1.5, 2.0, 3.0, 3.5]]])
        levels = keras.ops.convert_to_tensor([[0, 1]])
        print(pyramid_roi_align(maps, boxes, levels, 4).shape)  # (1, 2, 4, 4, 8)
        ```
    """
    checks.at_least("output_size", output_size, 1)
    checks.at_least("sampling_ratio", sampling_ratio, 1)
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
    terms = []
    # Of each bin one sample after the other, and of each sample one of the four cells around it.
    for part in range(sampling_ratio**2):
        down, right = divmod(part, sampling_ratio)
        for row, row_weight in rows:
            for column, column_weight in columns:
                y, y_weight = (x[..., down::sampling_ratio, None] for x in (row, row_weight))
                x, x_weight = (x[..., None, right::sampling_ratio] for x in (column, column_weight))
                cell = first[..., None] + y * width[..., None] + x
                weight = y_weight * x_weight / sampling_ratio**2
                shape = -1, num_boxes * output_size**2
                terms.append((ops.reshape(cell, shape), ops.reshape(weight, shape)))
    bins = _weighted_sum(flat, terms)
    return ops.reshape(bins, (-1, num_boxes, output_size, output_size, channels))


def _weighted_sum(flat: Tensor, terms: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum of rows `(B, N, C)` of `flat`, `(B, cells, C)`, with one number and weight `(B, N)` per term.

    One term after the other, forward and backward: of a thousand boxes on C4 each is 800 MB, and
    TensorFlow would have all of them in memory at a time.
    """

    @tf.custom_gradient
    def compute(flat):
        total = tf.zeros((), flat.dtype)
        for cell, weight in terms:
            with tf.control_dependencies([total]):
                rows = tf.gather(flat, cell, batch_dims=1)
            total = total + rows * tf.cast(weight, flat.dtype)[..., None]

        def gradient(by_total):
            batch, cells, channels = flat.shape
            batch = tf.shape(flat)[0] if batch is None else batch
            offset = cells * tf.range(batch)[:, None]
            by_flat = tf.zeros((), by_total.dtype)
            for cell, weight in terms:
                with tf.control_dependencies([by_flat]):
                    rows = by_total * tf.cast(weight, by_total.dtype)[..., None]
                by_flat = by_flat + tf.math.unsorted_segment_sum(
                    tf.reshape(rows, (-1, channels)),
                    tf.reshape(cell + offset, (-1,)),
                    batch * cells,
                )
            return tf.reshape(by_flat, tf.shape(flat))

        return total, gradient

    return compute(flat)


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
