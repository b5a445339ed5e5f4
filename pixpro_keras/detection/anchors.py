"""Anchors: the reference boxes of a region proposal network."""

import numpy as np

ASPECT_RATIOS = (0.5, 1.0, 2.0)


def cell_anchors(
    sizes: tuple[float, ...], aspect_ratios: tuple[float, ...] = ASPECT_RATIOS
) -> np.ndarray:
    """Anchors around (0, 0), size by size, as detectron2 orders them.

    An anchor of size s and aspect ratio r has the area s^2 and r times as much height as width.

    Args:
        sizes: sizes in pixels.
        aspect_ratios: ratios of height to width.

    Returns:
        `(len(sizes) * len(aspect_ratios), 4)` float32.

    Example:
        ```python
        from pixpro_keras.detection import cell_anchors

        print(cell_anchors((32, 64)).shape)  # (6, 4)
        ```
    """
    anchors = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = (size**2 / ratio) ** 0.5
            height = ratio * width
            anchors.append((-width / 2, -height / 2, width / 2, height / 2))
    return np.array(anchors, np.float32)


def grid_anchors(
    height: int,
    width: int,
    stride: int,
    sizes: tuple[float, ...],
    aspect_ratios: tuple[float, ...] = ASPECT_RATIOS,
) -> np.ndarray:
    """Anchors of all cells of a map, centered on multiples of the stride, as in detectron2.

    Args:
        height: rows of the map.
        width: columns of the map.
        stride: pixels per cell.
        sizes: sizes of the anchors in pixels.
        aspect_ratios: ratios of height to width.

    Returns:
        `(height * width * A, 4)` float32, row by row, the A anchors of a cell together.

    Example:
        ```python
        from pixpro_keras.detection import grid_anchors

        print(grid_anchors(height=2, width=3, stride=16, sizes=(32, 64)).shape)  # (36, 4)
        ```
    """
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4).astype(np.float32) * stride
    return (shifts + cell_anchors(sizes, aspect_ratios)).reshape(-1, 4)
