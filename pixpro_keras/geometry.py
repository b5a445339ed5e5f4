"""Where feature-map cells lie in the source image, and which cells of two views show the same place."""

from keras import ops

from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks


def cell_centers(coord: Tensor, size: tuple[int, int]) -> Tensor:
    """Centres of the cells of a feature map, in source-image coordinates.

    Cell k of an axis of n cells has its centre at `start + (end - start) * (k + 0.5) / n`. In a
    mirrored view `end < start`, so the centres run from right to left.

    Args:
        coord: `(B, 4)`: `x1, y1, x2, y2` of each view.
        size: `(h, w)` of the feature map.

    Returns:
        `(B, h * w, 2)` float32: x and y of each cell, cells in row-major order.
    """
    height, width = size
    coord = ops.cast(coord, "float32")
    x1, y1, x2, y2 = (coord[:, k : k + 1] for k in range(4))
    x = x1 + (x2 - x1) * (ops.arange(width, dtype="float32") + 0.5) / width  # (B, w)
    y = y1 + (y2 - y1) * (ops.arange(height, dtype="float32") + 0.5) / height  # (B, h)
    x = ops.repeat(ops.expand_dims(x, 1), height, axis=1)  # (B, h, w)
    y = ops.repeat(ops.expand_dims(y, 2), width, axis=2)  # (B, h, w)
    return ops.reshape(ops.stack([x, y], axis=-1), (-1, height * width, 2))


def cell_diagonals(coord: Tensor, size: tuple[int, int]) -> Tensor:
    """Length of a cell's diagonal in source-image coordinates: `(B, 4)` to `(B,)` float32."""
    height, width = size
    coord = ops.cast(coord, "float32")
    cell_width = (coord[:, 2] - coord[:, 0]) / width
    cell_height = (coord[:, 3] - coord[:, 1]) / height
    return ops.sqrt(ops.square(cell_width) + ops.square(cell_height))


def positive_pairs(
    coord1: Tensor, coord2: Tensor, size: tuple[int, int], threshold: float
) -> Tensor:
    """Which cells of two views show the same place: `A(i, j)` of the paper.

    `A(i, j) = 1` where the distance of the two cell centres in the source image, divided by the
    larger of the two cells' diagonals, is below the threshold.

    Args:
        coord1: `(B, 4)`. Corners of the first views.
        coord2: `(B, 4)`. Corners of the second views.
        size: `(h, w)` of both feature maps.
        threshold: largest distance, in cell diagonals; the paper's T = 0.7.

    Returns:
        `(B, h * w, h * w)` float32 of 0 and 1, view 1 in rows.

    Raises:
        ValueError: if `threshold` is not positive.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, section 3.1.
    """
    return near(
        cell_centers(coord1, size),
        cell_centers(coord2, size),
        reach(coord1, coord2, size, threshold),
    )


def reach(coord1: Tensor, coord2: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Up to which distance of their centres two cells are a positive pair: `(B,)` float32.

    Args:
        coord1: `(B, 4)`. Corners of the first views.
        coord2: `(B, 4)`. Corners of the second views.
        size: `(h, w)` of both feature maps.
        threshold: in diagonals of the larger cell.

    Raises:
        ValueError: if `threshold` is not positive.
    """
    checks.positive("threshold", threshold)
    return threshold * ops.maximum(cell_diagonals(coord1, size), cell_diagonals(coord2, size))


def near(centers1: Tensor, centers2: Tensor, reach: Tensor) -> Tensor:
    """Which points lie nearer than `reach` to each other.

    Args:
        centers1: `(B, R, 2)`.
        centers2: `(B, N, 2)`.
        reach: `(B,)`.

    Returns:
        `(B, R, N)` float32 of 0 and 1.
    """
    centers1, centers2 = ops.expand_dims(centers1, 2), ops.expand_dims(centers2, 1)
    # One axis at a time: at the finer levels of a pyramid these are the largest tensors of a step.
    x, y = (ops.square(centers1[..., k] - centers2[..., k]) for k in range(2))
    return ops.cast(ops.sqrt(x + y) < ops.reshape(reach, (-1, 1, 1)), "float32")


def is_mirrored(coord: Tensor) -> Tensor:
    """Whether each view is mirrored: `(B, 4)` to `(B,)` bool."""
    return coord[:, 0] > coord[:, 2]


def common_boxes(coord1: Tensor, coord2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where in each of two views lies what both show.

    Args:
        coord1: `(B, 4)`. Corners of the first views.
        coord2: `(B, 4)`. Corners of the second views.

    Returns:
        Two `(B, 4)` float32: `x1, y1, x2, y2` of the common part in shares of the first and of the
        second view's own sides, as the view is seen (mirrored, if it is). And `(B,)` float32: 1
        where there is a common part; where there is none, the boxes are the whole views.
    """
    coord1, coord2 = (ops.cast(coord, "float32") for coord in (coord1, coord2))
    start1, start2 = (ops.minimum(coord[:, :2], coord[:, 2:]) for coord in (coord1, coord2))
    end1, end2 = (ops.maximum(coord[:, :2], coord[:, 2:]) for coord in (coord1, coord2))
    start, end = ops.maximum(start1, start2), ops.minimum(end1, end2)
    overlaps = ops.all(end > start, axis=1)
    boxes = []
    for coord in (coord1, coord2):
        # A mirrored view's x runs backwards from its first corner.
        origin, side = coord[:, :2], coord[:, 2:] - coord[:, :2]
        side = ops.where(side == 0, 1.0, side)
        one, two = (start - origin) / side, (end - origin) / side
        box = ops.concatenate([ops.minimum(one, two), ops.maximum(one, two)], axis=1)
        boxes.append(ops.where(overlaps[:, None], box, ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])))
    return boxes[0], boxes[1], ops.cast(overlaps, "float32")
