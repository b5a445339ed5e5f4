"""RoIAlign: features of boxes, sampled at exact places."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from keras import ops

from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = ["pyramid_roi_align", "roi_align"]

# Largest number of values between the two products of `roi_align`.
_LARGEST_PRODUCT = 1 << 25
# Groups of boxes of similar size in `pyramid_roi_align`: largest number of groups, least boxes per group.
_MOST_GROUPS, _LEAST_BOXES = 8, 3
# Terms of its gradient that are added at once, since TensorFlow copies the maps each time.
_TERMS_TOGETHER = 4


def roi_align(features: Tensor, boxes: Tensor, output_size: int, sampling_ratio: int = 0) -> Tensor:
    """Averages of bilinear samples in a grid of bins over each box, as detectron2's "aligned" form.

    The center of cell (0, 0) lies at (0.5, 0.5). A sample up to one cell outside the map takes the
    value at the border; beyond that it is 0. Shapes are static, whatever the number of samples: with
    the mean weight of every cell of an axis in each bin, boxes are products of matrices,
    `rows @ features @ columns`.

    Args:
        features: `(B, H, W, C)`.
        boxes: `(B, R, 4)`. `x1, y1, x2, y2` in cells of the map, with x1 <= x2 and y1 <= y2.
        output_size: bins along each side, S.
        sampling_ratio: samples along each side of a bin; 0: as many as the bin has cells, rounded up,
            a number for each box and side.

    Returns:
        `(B, R, S, S, C)` in the features' dtype. No gradient reaches the boxes.

    Raises:
        ValueError: if `output_size` is less than 1, or `sampling_ratio` less than 0.

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
    checks.at_least("output_size", output_size, 1)
    checks.at_least("sampling_ratio", sampling_ratio, 0)
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    height, width, channels = features.shape[1:]
    num_boxes = boxes.shape[1]
    if not num_boxes:
        return _no_boxes(boxes, output_size, features)
    row_size = output_size * width * channels * (features.shape[0] or 1)
    num_together = max(1, _LARGEST_PRODUCT // row_size)

    @tf.custom_gradient
    def pool(features):
        across, down = (
            tf.cast(
                _bins(boxes, axis, size, size, output_size, sampling_ratio).weights, features.dtype
            )
            for axis, size in ((0, width), (1, height))
        )
        parts = [slice(n, n + num_together) for n in range(0, num_boxes, num_together)]
        pooled: list[Tensor] = []
        # Sequential, since TensorFlow would hold all parts in memory at once.
        for part in parts:
            with tf.control_dependencies(pooled[-1:]):
                rows = tf.einsum("brsh,bhwc->brswc", down[:, part], features)
                pooled.append(tf.einsum("brtw,brswc->brstc", across[:, part], rows))

        def gradient(by_pooled):
            # 16 bits would round each of many sums.
            by_features = tf.zeros((), tf.float32 if features.dtype.size == 2 else features.dtype)
            for part in parts:
                with tf.control_dependencies([by_features]):
                    rows = tf.einsum("brtw,brstc->brswc", across[:, part], by_pooled[:, part])
                by_part = tf.einsum("brsh,brswc->bhwc", down[:, part], rows)
                by_features += tf.cast(by_part, by_features.dtype)
            return tf.cast(by_features, features.dtype)

        return tf.concat(pooled, axis=1), gradient

    return pool(ops.convert_to_tensor(features))


def _no_boxes(boxes: Tensor, output_size: int, features: Tensor) -> Tensor:
    shape = (tf.shape(boxes)[0], 0, output_size, output_size, features.shape[-1])
    return tf.zeros(shape, features.dtype)


def pyramid_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor,
    levels: Tensor,
    output_size: int,
) -> Tensor:
    """`roi_align` for boxes on different maps, with as many samples as a bin has cells.

    Adds up the cells of each bin one at a time, in groups of boxes of similar size. Products with whole
    maps, as in `roi_align`, would take longer, since boxes are small compared with their maps.

    Args:
        features: maps `(B, H, W, C)` of any sizes.
        boxes: `(B, R, 4)`. `x1, y1, x2, y2` in cells of the box's map.
        levels: `(B, R)` or `(1, R)` integers. Number of each box's map.
        output_size: bins along each side, S.

    Returns:
        `(B, R, S, S, C)` in the features' dtype. No gradient reaches the boxes.

    Raises:
        ValueError: if `output_size` is less than 1.

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
    channels = features[0].shape[-1]
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    num_boxes = boxes.shape[1]
    if not num_boxes:
        return _no_boxes(boxes, output_size, features[0])
    # Maps are concatenated: first row of each map in `flat`, and sides of the map of each box.
    sides = np.array([x.shape[1:3] for x in features], np.int64)
    firsts = np.cumsum([0, *sides.prod(axis=1)])[:-1]
    longest_column, longest_row = sides.max(axis=0).tolist()
    flat = ops.concatenate(
        [
            ops.reshape(x, (-1, h * w, channels))
            for x, (h, w) in zip(features, sides.tolist(), strict=True)
        ],
        axis=1,
    )
    levels = tf.broadcast_to(tf.cast(levels, tf.int64), tf.shape(boxes)[:2])
    # Sorted by cells per bin, since a group needs as many terms as its largest box.
    extent = tf.math.ceil((boxes[..., 2:] - boxes[..., :2]) / output_size) + 1
    order = _argsort(-extent[..., 0] * extent[..., 1])
    boxes, levels = (tf.gather(x, order, batch_dims=1) for x in (boxes, levels))
    first, height, width = (ops.take(x, levels) for x in (firsts, *sides.T))
    across = _bins(boxes, 0, width, longest_row, output_size)
    down = _bins(boxes, 1, height, longest_column, output_size)
    num_groups = max(1, min(_MOST_GROUPS, num_boxes // _LEAST_BOXES))
    parts = np.array_split(np.arange(num_boxes), num_groups)
    groups = [
        _Group(across.part(some), down.part(some), *(x[:, some] for x in (first, height, width)))
        for some in (slice(part[0], part[-1] + 1) for part in parts)
    ]
    bins = tf.concat(_pool_groups(flat, groups), axis=1)
    bins = tf.reshape(bins, (-1, num_boxes, output_size, output_size, channels))
    return tf.gather(bins, _argsort(order), batch_dims=1)


def _argsort(values: Tensor) -> Tensor:
    return tf.cast(tf.argsort(values, stable=True), tf.int64)  # On a GPU: see `ops.argmax`.


def _pool_groups(flat: Tensor, groups: "Sequence[_Group]") -> list[Tensor]:
    """Bins `(B, N, C)` of each group, from the concatenated maps `(B, cells, C)`."""

    @tf.custom_gradient
    def pool(flat):
        def gradient(*by_pooled):
            batch, (num_cells, channels) = tf.shape(flat)[0], flat.shape[1:]
            rows_before = tf.range(tf.cast(batch, tf.int64))[:, None, None] * num_cells
            by_flat = tf.zeros((batch * num_cells, channels))
            for group, by_bins in zip(groups, by_pooled, strict=True):
                by_flat = _add_back(by_flat, group, tf.cast(by_bins, tf.float32), rows_before)
            return tf.cast(tf.reshape(by_flat, tf.shape(flat)), flat.dtype)

        return [_pool_group(flat, group) for group in groups], gradient

    return pool(flat)


def _pool_group(flat: Tensor, group: "_Group") -> Tensor:
    """Sum of the terms of each bin, `(B, N, C)`."""

    def add(number: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        cells, weights = group.term(number)
        rows = tf.cast(tf.gather(flat, cells, batch_dims=1), tf.float32)
        return number + 1, total + rows * weights[..., None]

    zeros = tf.zeros((tf.shape(flat)[0], group.num_bins, flat.shape[-1]))
    return tf.cast(_repeat(add, group.num_terms, zeros), flat.dtype)


def _add_back(by_flat: Tensor, group: "_Group", by_bins: Tensor, rows_before: Tensor) -> Tensor:
    """Adds a group's part of the gradient.

    Args:
        by_flat: `(B * cells, C)`. Gradient of the concatenated maps of all images.
        group: the group.
        by_bins: `(B, N, C)`. Gradient of its bins.
        rows_before: `(B, 1, 1)`. First row of each image in `by_flat`.
    """
    channels = by_flat.shape[-1]

    def add(number: Tensor, by_flat: Tensor) -> tuple[Tensor, Tensor]:
        # After the last term, weights are 0.
        some = [group.term(number + n) for n in range(_TERMS_TOGETHER)]
        cells, weights = (tf.stack(each, axis=1) for each in zip(*some, strict=True))
        rows = by_bins[:, None] * weights[..., None]
        cells = tf.reshape(cells + rows_before, (-1, 1))
        by_flat = tf.tensor_scatter_nd_add(by_flat, cells, tf.reshape(rows, (-1, channels)))
        return number + _TERMS_TOGETHER, by_flat

    return _repeat(add, group.num_terms, by_flat)


@dataclasses.dataclass(frozen=True)
class _Bins:
    """Bins of boxes along an axis of N cells.

    Attributes:
        weights: `(B, R, S, N)` float32. Mean weight of each cell in each bin.
        first: `(B, R, S)` int64. First cell with a weight.
        num_cells: `(B, R)` int64. Largest number of cells of a bin that have a weight, where samples are
            a cell or less apart.
    """

    weights: Tensor
    first: Tensor
    num_cells: Tensor

    def part(self, boxes: slice) -> "_Bins":
        """Selects the bins of some boxes."""
        return _Bins(*(getattr(self, one.name)[:, boxes] for one in dataclasses.fields(self)))

    def cell(self, number: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """Index and weight of a cell of each bin, `(B, R, S)` int64 and float32; 0 beyond the map.

        Args:
            number: `(B, R)`. Number of the cell in each bin, from 0.
            size: `(B, R)` int64. Cells along the axis of each box's map.
        """
        cell = self.first + number[..., None]
        last = size[..., None] - 1
        inside = tf.minimum(cell, last)
        weight = tf.gather(self.weights, inside, batch_dims=3)
        return inside, weight * tf.cast(cell <= last, tf.float32)


@dataclasses.dataclass(frozen=True)
class _Group:
    """Boxes of similar size, whose bins are added up together.

    Attributes:
        across: bins along the rows of the maps.
        down: bins along the columns.
        first: `(B, R)` int64. Row of the first cell of each box's map in the concatenated maps.
        height: `(B, R)` int64. Rows of each box's map.
        width: `(B, R)` int64. Columns of each box's map.
    """

    across: _Bins
    down: _Bins
    first: Tensor
    height: Tensor
    width: Tensor

    @property
    def num_bins(self) -> int:
        """Number of bins of all boxes of an image."""
        return self.across.first.shape[1] * self.down.first.shape[2] * self.across.first.shape[2]

    @property
    def num_terms(self) -> Tensor:
        """Number of cells of the largest bin."""
        return tf.cast(tf.reduce_max(self.across.num_cells * self.down.num_cells), tf.int32)

    def term(self, number: Tensor) -> tuple[Tensor, Tensor]:
        """Row in the concatenated maps and weight of a cell of each bin, `(B, num_bins)`."""
        number = tf.cast(number, tf.int64)
        y, y_weight = self.down.cell(number // self.across.num_cells, self.height)
        x, x_weight = self.across.cell(number % self.across.num_cells, self.width)
        rows = self.first[..., None] + y * self.width[..., None]
        cells = rows[..., :, None] + x[..., None, :]
        weights = y_weight[..., :, None] * x_weight[..., None, :]
        return tf.reshape(cells, (-1, self.num_bins)), tf.reshape(weights, (-1, self.num_bins))


def _bins(
    boxes: Tensor, axis: int, size: Tensor, cells: int, output_size: int, sampling_ratio: int = 0
) -> _Bins:
    """Bins of boxes `(B, R, 4)` along an axis (0: x, 1: y); `size` `(B, R)` is the size of each box's map."""
    size = tf.cast(size, tf.float32)[..., None]
    start, end = (boxes[..., n, None] - 0.5 for n in (axis, axis + 2))  # (B, R, 1)
    bin_size = (end - start) / output_size
    num_samples = (
        tf.fill(tf.shape(start), float(sampling_ratio))
        if sampling_ratio
        else tf.math.ceil(bin_size)
    )
    divisor = tf.maximum(num_samples, 1.0)
    starts = start + tf.range(output_size, dtype=tf.float32) * bin_size

    def place(number: Tensor) -> Tensor:
        return starts + (tf.cast(number, tf.float32) + 0.5) * bin_size / divisor  # (B, R, S)

    def add(number: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        at = place(number)
        counts = (tf.cast(number, tf.float32) < num_samples) & (at >= -1.0) & (at <= size)
        at = tf.clip_by_value(at, 0.0, size - 1.0)
        distance = tf.abs(at[..., None] - tf.range(cells, dtype=tf.float32))
        weight = tf.maximum(1.0 - distance, 0.0)
        return number + 1, total + weight * (tf.cast(counts, tf.float32) / divisor)[..., None]

    most = tf.cast(tf.reduce_max(num_samples), tf.int32)
    weights = _repeat(add, most, tf.zeros_like(starts)[..., None] + tf.zeros(cells))
    first = tf.cast(tf.clip_by_value(place(0), 0.0, size - 1.0), tf.int64)
    return _Bins(weights, first, tf.cast(divisor[..., 0], tf.int64) + 1)


def _repeat(step: Callable, count: Tensor, total: Tensor) -> Tensor:
    """Loop of `number, total = step(number, total)` from 0 while `number < count`; returns `total`."""
    _, total = tf.while_loop(
        lambda number, _: number < count, step, [tf.constant(0), total], parallel_iterations=1
    )
    return total
