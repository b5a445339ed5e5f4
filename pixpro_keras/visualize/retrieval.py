"""Nearest cells across images: retrieval by the cosine of their features."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pixpro_keras.visualize.figures import TEXT, black_rim, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Cell = tuple[int, int, int]  # image, row, column
_QUERY_COLOR, _RESULT_COLOR = "#ffe119", "#19e68c"
_CROP = 0.4  # Side of the crop around a cell, as a share of the image's.
_MIN_CELLS = 3  # but at least so many cells


def nearest_cells(features: np.ndarray, query: Cell, count: int) -> list[tuple[Cell, float]]:
    """Finds the most similar cell to a query in every other image, the most similar images first.

    Args:
        features: `(B, h, w, C)`.
        query: image, row and column of the query.
        count: largest number of images.

    Returns:
        `(image, row, column)` and the cosine, in [-1, 1], by decreasing cosine.

    Raises:
        ValueError: if there is no such query, or no other image.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.visualize import nearest_cells

        print(nearest_cells(np.random.rand(3, 4, 4, 8), query=(0, 1, 2), count=2))
        ```
    """
    features = np.asarray(features, np.float64)
    if len(features) < 2:
        raise ValueError("`features` must have at least two images. Received one.")
    if not all(0 <= index < size for index, size in zip(query, features.shape, strict=False)):
        raise ValueError(f"`query` must lie in {features.shape[:3]}. Received: {query}.")
    norms = np.linalg.norm(features, axis=-1, keepdims=True)
    unit = features / np.maximum(norms, 1e-12)
    cosines = unit @ unit[query]
    nearest = []
    for index in set(range(len(features))) - {query[0]}:
        row, column = np.unravel_index(cosines[index].argmax(), cosines[index].shape)
        nearest.append(
            ((index, int(row), int(column)), float(cosines[index, int(row), int(column)]))
        )
    return sorted(nearest, key=lambda one: -one[1])[:count]


def draw_retrieval(
    images: np.ndarray, features: np.ndarray, queries: Sequence[Cell], count: int = 5
) -> "Figure":
    """Draws each query and, to its right, the most similar cell of the most similar images.

    The first column shows the whole image of the query, the others the surroundings of a cell.

    Args:
        images: `(B, H, W, 3)` uint8 RGB.
        features: `(B, h, w, C)`.
        queries: image, row and column of each query.
        count: largest number of images retrieved for each query.

    Returns:
        A figure with a row for each query.

    Raises:
        ValueError: as for `nearest_cells`.
        ImportError: if matplotlib is not installed.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.visualize import draw_retrieval

        images = np.random.randint(0, 256, (3, 64, 64, 3), "uint8")
        figure = draw_retrieval(images, np.random.rand(3, 4, 4, 8), queries=[(0, 1, 2)])
        ```
    """
    retrieved = [nearest_cells(features, query, count) for query in queries]
    columns = 2 + max(len(one) for one in retrieved)
    size = (features.shape[1], features.shape[2])
    figure = new_figure(2.2 * columns, 2.4 * len(queries))
    panels = figure.subplots(len(queries), columns, squeeze=False)
    for panel in panels.ravel():
        panel.axis("off")
    for row, (query, cells) in enumerate(zip(queries, retrieved, strict=True)):
        _draw(panels[row, 0], images, query, size, _QUERY_COLOR, "query")
        _draw(panels[row, 1], images, query, size, _QUERY_COLOR, "closer")
        _zoom(panels[row, 1], images, query, size)
        for panel, (cell, cosine) in zip(panels[row, 2:], cells, strict=False):
            _draw(panel, images, cell, size, _RESULT_COLOR, f"cosine {cosine:.3f}")
            _zoom(panel, images, cell, size)
    return figure


def _draw(
    panel: "Axes", images: np.ndarray, cell: Cell, size: tuple[int, int], color: str, title: str
) -> None:
    from matplotlib.patches import Rectangle

    image = images[cell[0]]
    height, width = image.shape[0] / size[0], image.shape[1] / size[1]
    panel.imshow(image, extent=(0, image.shape[1], image.shape[0], 0))
    box = Rectangle((cell[2] * width, cell[1] * height), width, height, fill=False)
    box.set(edgecolor=color, linewidth=1.5, path_effects=black_rim(3))
    panel.add_patch(box)
    panel.set_title(title, fontsize=TEXT)


def _zoom(panel: "Axes", images: np.ndarray, cell: Cell, size: tuple[int, int]) -> None:
    """Limits a panel to the surroundings of a cell, moved inside the image at its border."""
    starts, ends = [], []
    for index, cells, pixels in zip(cell[1:], size, images.shape[1:3], strict=True):
        side = min(max(_CROP, _MIN_CELLS / cells), 1.0) * pixels
        start = (index + 0.5) * pixels / cells - side / 2
        start = min(max(start, 0.0), pixels - side)
        starts.append(start)
        ends.append(start + side)
    panel.set(xlim=(starts[1], ends[1]), ylim=(ends[0], starts[0]))
