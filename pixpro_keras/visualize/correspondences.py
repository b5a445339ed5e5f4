"""Pictures of the positive pairs: cells of two views that show the same place."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pixpro_keras import geometry
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks
from pixpro_keras.visualize.figures import (
    MAX_CELLS_AROUND_NUMBER,
    TEXT,
    TITLE,
    black_rim,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Distinct on photographs, also for the color-blind; numbers repeat the information.
COLORS = ("#ff5a1f", "#3db7ff", "#ffe119", "#e04fff", "#19e68c", "#ffffff", "#b08cff", "#ff9ec4")
_GAP = 0.12  # between the views, as a share of a view's width


def to_display(views: Tensor, preprocess: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Turns a backbone's inputs back into images that can be shown.

    `preprocess` may be any affine function of the three channels, in any order of channels. Its
    matrix is found from its outputs for black and for pure red, green and blue, and inverted.

    Args:
        views: `(B, H, W, 3)`, preprocessed.
        preprocess: the backbone's input convention, of `(..., H, W, 3)` RGB images in 0..255.

    Returns:
        `(B, H, W, 3)` uint8 RGB.

    Raises:
        ValueError: if `preprocess` is not affine or loses a channel.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.visualize import to_display

        views = np.random.uniform(-1, 1, (2, 8, 8, 3))
        images = to_display(views, lambda image: image / 127.5 - 1)
        ```
    """
    black, white, gray = np.zeros(3), np.full(3, 255.0), np.full(3, 127.5)
    colors = np.stack([black, white, gray, *np.diag(white)])
    probes = np.asarray(preprocess(colors.reshape(-1, 1, 1, 3).astype("float32")), "float64")
    probes = probes.reshape(-1, 3)
    offset = probes[0]
    matrix = (probes[3:] - offset) / 255.0  # rgb @ matrix + offset
    if not np.allclose(colors @ matrix + offset, probes, rtol=1e-3, atol=1e-3 * np.ptp(probes)):
        raise ValueError("`preprocess` must be an affine function of the colors of a pixel.")
    if np.linalg.matrix_rank(matrix) < 3:
        raise ValueError("`preprocess` must keep three channels apart.")
    rgb = (np.asarray(views, "float64") - offset) @ np.linalg.inv(matrix)
    return np.clip(np.rint(rgb), 0, 255).astype("uint8")


def draw_correspondences(
    view1: np.ndarray,
    view2: np.ndarray,
    coord1: Tensor,
    coord2: Tensor,
    map_size: tuple[int, int],
    threshold: float,
    max_pairs: int = 6,
) -> "Figure":
    """Draws the two views of each image side by side with the grid of the feature map.

    Cells without a positive partner in the other view are faded. A few of the others, spread over
    the views, are joined to their nearest partner: same color, same number, and a line.

    Args:
        view1: `(B, H, W, 3)` uint8 RGB.
        view2: `(B, H, W, 3)` uint8 RGB.
        coord1: `(B, 4)`. Corners of the first views in the source image.
        coord2: `(B, 4)`. Corners of the second views.
        map_size: height and width `(h, w)` of the feature maps.
        threshold: largest distance of a positive pair, in cell diagonals.
        max_pairs: largest number of pairs joined in each image, 0 to 8.

    Returns:
        A figure with one panel per image.

    Raises:
        ValueError: if `threshold` or `max_pairs` is out of its range.
        ImportError: if matplotlib is not installed.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.visualize import draw_correspondences

        views = np.random.randint(0, 256, (2, 1, 64, 64, 3), "uint8")
        coord1 = np.array([[0.0, 0.0, 0.8, 0.8]], "float32")
        coord2 = np.array([[0.9, 0.2, 0.2, 1.0]], "float32")  # mirrored
        figure = draw_correspondences(*views, coord1, coord2, (4, 4), threshold=0.7)
        ```
    """
    checks.in_range("max_pairs", max_pairs, 0, len(COLORS))
    positives = np.asarray(geometry.positive_pairs(coord1, coord2, map_size, threshold)) > 0
    coords = [np.asarray(coord, "float32") for coord in (coord1, coord2)]
    centers = [np.asarray(geometry.cell_centers(coord, map_size)) for coord in coords]
    num_images, height, width = view1.shape[:3]
    columns = min(num_images, 2)
    rows = -(-num_images // columns)
    figure = new_figure(6.4 * columns, 3.5 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.axis("off")
    for index, panel in enumerate(panels[:num_images]):
        positive = positives[index]
        for number, view in enumerate((view1[index], view2[index])):
            has_partner = positive.any(axis=1 - number).reshape(map_size)
            left = number * (1 + _GAP)
            _draw_view(panel, view, left, has_partner)
            mirrored = coords[number][index, 0] > coords[number][index, 2]
            label = f"view {number + 1}" + (" (mirrored)" if mirrored else "")
            panel.text(left + 0.5, 1.02, label, ha="center", va="top")
        pairs = _spread_pairs(positive, centers[0][index], centers[1][index], max_pairs)
        for number, cells in enumerate(pairs):
            _draw_pair(panel, cells, map_size, str(number + 1), COLORS[number])
        # Both views are drawn as unit squares.
        panel.set(xlim=(-0.01, 2.01 + _GAP), ylim=(1.1, -0.01), aspect=height / width)
        panel.set_title(
            f"{positive.sum()} of {positive.size} cell pairs are positive ({positive.mean():.1%})",
            fontsize=TITLE,
        )
    return figure


def _spread_pairs(
    positive: np.ndarray, centers1: np.ndarray, centers2: np.ndarray, max_pairs: int
) -> list[tuple[int, int]]:
    """Positive pairs of mutually nearest cells, spread over the image.

    Args:
        positive: `(N, N)` booleans.
        centers1: `(N, 2)`. Centers of the cells of view 1 in the source image.
        centers2: `(N, 2)`. Centers of the cells of view 2.
        max_pairs: largest number of pairs.

    Returns:
        `(cell of view 1, cell of view 2)`, the pair that is farthest to the upper left first.
    """
    distance = np.linalg.norm(centers1[:, None] - centers2, axis=-1)
    distance = np.where(positive, distance, np.inf)
    nearest = distance.argmin(axis=1)
    back = distance.argmin(axis=0)
    candidates = [int(i) for i in np.flatnonzero(positive.any(axis=1)) if back[nearest[i]] == i]
    chosen: list[int] = []
    while candidates and len(chosen) < max_pairs:
        if chosen:
            gaps = np.linalg.norm(centers1[candidates][:, None] - centers1[chosen], axis=-1)
            best = int(gaps.min(axis=1).argmax())
        else:
            best = int(centers1[candidates].sum(axis=1).argmin())
        chosen.append(candidates.pop(best))
    return [(i, int(nearest[i])) for i in chosen]


def _draw_view(panel: "Axes", view: np.ndarray, left: float, has_partner: np.ndarray) -> None:
    """Draws a view and its grid on a unit square; cells without a partner are faded."""
    extent = (left, left + 1, 1, 0)
    panel.imshow(view, extent=extent)
    height, width = has_partner.shape
    veil = np.full((height, width, 4), 0.6)  # Gray, to show on bright and on dark views.
    veil[..., 3] = np.where(has_partner, 0.0, 0.75)
    panel.imshow(veil, extent=extent, interpolation="nearest")
    # A fine grid must not hide the view.
    grid = {"colors": "black", "linewidth": 0.4, "alpha": min(0.5, 3.5 / max(height, width))}
    panel.hlines(np.arange(height + 1) / height, left, left + 1, **grid)
    panel.vlines(left + np.arange(width + 1) / width, 0, 1, **grid)


def _draw_pair(
    panel: "Axes", cells: tuple[int, int], map_size: tuple[int, int], name: str, color: str
) -> None:
    """Outlines and numbers a cell in each view, and joins the two."""
    from matplotlib.patches import Rectangle

    height, width = map_size
    is_small = max(map_size) > MAX_CELLS_AROUND_NUMBER
    line = 1.2 if is_small else 2.2
    rims = []
    for number, cell in enumerate(cells):
        row, column = divmod(cell, width)
        x, y = number * (1 + _GAP) + column / width, row / height
        box = Rectangle((x, y), 1 / width, 1 / height, fill=False, edgecolor=color, linewidth=line)
        box.set_path_effects(black_rim(1.8 * line))
        panel.add_patch(box)
        # In the corner, so that the contents of the two cells can be compared.
        text = panel.text(x + 0.012, y + 0.012, name, color=color)
        text.set(ha="left", va="top", weight="bold", fontsize=TEXT)
        if is_small:  # beside it, toward the middle, where there is room
            is_left = 2 * column < width
            text.set_x(x + 1.2 / width if is_left else x - 0.2 / width)
            text.set_horizontalalignment("left" if is_left else "right")
        text.set_path_effects(black_rim(2.5))
        rims.append((x + (1 - number) / width, y + 0.5 / height))
    (joint,) = panel.plot(*zip(*rims, strict=True), color=color, linewidth=1.2, alpha=0.9)
    joint.set_path_effects(black_rim(2.4, alpha=0.6))
