"""Places of feature-map cells in the source image, and cells of two views that show the same place."""

from keras import ops

from pixpro_keras.ops import LazyRows, lazy_rows
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = [
    "cell_centers",
    "cell_diagonals",
    "common_boxes",
    "is_mirrored",
    "lazy_positive_pairs",
    "match_radius",
    "positive_pairs",
    "within",
]


def cell_centers(coord: Tensor, size: tuple[int, int]) -> Tensor:
    """Centers of the cells of a feature map, in source-image coordinates.

    Cell k of an axis of n cells has its center at `start + (end - start) * (k + 0.5) / n`. In a
    mirrored view `end < start`, so the centers run from right to left.

    Args:
        coord: `(B, 4)`: `x1, y1, x2, y2` of each view.
        size: `(h, w)` of the feature map.

    Returns:
        `(B, h * w, 2)` float32: x and y of each cell, cells in row-major order.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.geometry import cell_centers

        print(cell_centers(np.array([[0.0, 0.0, 1.0, 1.0]]), size=(1, 2)))  # [[0.25, 0.5], [0.75, 0.5]]
        ```
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
    """Length of a cell's diagonal in source-image coordinates: `(B, 4)` to `(B,)` float32.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.geometry import cell_diagonals

        print(cell_diagonals(np.array([[0.0, 0.0, 0.6, 0.8]]), size=(2, 2)))  # [0.5]
        ```
    """
    height, width = size
    coord = ops.cast(coord, "float32")
    cell_width = (coord[:, 2] - coord[:, 0]) / width
    cell_height = (coord[:, 3] - coord[:, 1]) / height
    return ops.sqrt(ops.square(cell_width) + ops.square(cell_height))


def positive_pairs(
    coord1: Tensor, coord2: Tensor, size: tuple[int, int], threshold: float
) -> Tensor:
    """Cells of two views that show the same place: `A(i, j)` of the paper.

    `A(i, j) = 1` where the distance of the two cell centers in the source image, divided by the
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

    Example:
        ```python
        import numpy as np
        from pixpro_keras.geometry import positive_pairs

        left, right = np.array([[0.0, 0.0, 0.6, 1.0]]), np.array([[0.4, 0.0, 1.0, 1.0]])
        positives = positive_pairs(left, right, size=(7, 7), threshold=0.7)
        print(positives.shape)  # (1, 49, 49)
        ```
    """
    return within(
        cell_centers(coord1, size),
        cell_centers(coord2, size),
        match_radius(coord1, coord2, size, threshold),
    )


def lazy_positive_pairs(
    coord1: Tensor,
    coord2: Tensor,
    size: tuple[int, int],
    threshold: float,
    size2: tuple[int, int] | None = None,
) -> Tensor | LazyRows:
    """`positive_pairs` in the form that needs the least memory; pixel losses accept either form.

    Args:
        coord1: `(B, 4)`. Corners of the first views.
        coord2: `(B, 4)`. Corners of the second views.
        size: `(h, w)` of the feature maps.
        threshold: largest distance, in cell diagonals.
        size2: `(h, w)` of the second views' maps, where theirs differ.

    Returns:
        The mask of `positive_pairs`; of a map with more than `ops.MAX_ROWS` cells its rows, which the
        losses compute block by block.

    Raises:
        ValueError: if `threshold` is not positive.

    Example:
        ```python
        import numpy as np
        from pixpro_keras import geometry

        coord = np.array([[0.0, 0.0, 1.0, 1.0]])
        rows = geometry.lazy_positive_pairs(coord, coord, size=(80, 80), threshold=0.7)
        print(rows.function(rows.inputs[:, :10]).shape)  # (1, 10, 6400)
        ```
    """
    centers2 = cell_centers(coord2, size2 or size)
    radius = match_radius(coord1, coord2, size, threshold, size2)
    return lazy_rows(lambda some: within(some, centers2, radius), cell_centers(coord1, size))


def match_radius(
    coord1: Tensor,
    coord2: Tensor,
    size: tuple[int, int],
    threshold: float,
    size2: tuple[int, int] | None = None,
) -> Tensor:
    """Distance of two cell centers below which the cells are a positive pair.

    Args:
        coord1: `(B, 4)`. Corners of the first views.
        coord2: `(B, 4)`. Corners of the second views.
        size: `(h, w)` of the feature maps.
        threshold: largest distance, in diagonals of the larger cell.
        size2: `(h, w)` of the second views' maps, where theirs differ.

    Returns:
        `(B,)` float32, in source-image coordinates.

    Raises:
        ValueError: if `threshold` is not positive.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.geometry import match_radius

        coord = np.array([[0.0, 0.0, 0.7, 0.7]])
        print(match_radius(coord, coord, size=(7, 7), threshold=1.0))  # [0.141]
        ```
    """
    checks.positive("threshold", threshold)
    diagonals = cell_diagonals(coord1, size), cell_diagonals(coord2, size2 or size)
    return threshold * ops.maximum(*diagonals)


def within(points1: Tensor, points2: Tensor, radius: Tensor) -> Tensor:
    """Pairs of points with a distance below the radius.

    Args:
        points1: `(B, R, 2)`.
        points2: `(B, N, 2)`.
        radius: `(B,)`.

    Returns:
        `(B, R, N)` float32 of 0 and 1.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.geometry import within

        points = np.array([[[0.0, 0.0], [3.0, 4.0]]], "float32")
        print(within(points, points, np.array([5.1], "float32")))  # all 1
        ```
    """
    points1, points2 = ops.expand_dims(points1, 2), ops.expand_dims(points2, 1)
    # One axis at a time: at the finer levels of a pyramid these are the largest tensors of a step.
    x, y = (ops.square(points1[..., k] - points2[..., k]) for k in range(2))
    return ops.cast(ops.sqrt(x + y) < ops.reshape(radius, (-1, 1, 1)), "float32")


def is_mirrored(coord: Tensor) -> Tensor:
    """True for each view that is mirrored: `(B, 4)` to `(B,)` bool.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.geometry import is_mirrored

        print(is_mirrored(np.array([[0.8, 0.0, 0.2, 1.0]])))  # [True]
        ```
    """
    return coord[:, 0] > coord[:, 2]


def common_boxes(coord1: Tensor, coord2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Region that two views share, as a box in each of them.

    Args:
        coord1: `(B, 4)`. Corners of the first views.
        coord2: `(B, 4)`. Corners of the second views.

    Returns:
        Two `(B, 4)` float32: `x1, y1, x2, y2` of the region as fractions of the first and of the
        second view's sides, from the left of the view, whether mirrored or not. And `(B,)` float32:
        1 where the views overlap; where they do not, the boxes are the whole views.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.geometry import common_boxes

        left, right = np.array([[0.0, 0.0, 0.5, 1.0]]), np.array([[0.25, 0.0, 0.75, 1.0]])
        box1, box2, overlaps = common_boxes(left, right)  # [0.5, 0, 1, 1], [0, 0, 0.5, 1], 1
        ```
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
