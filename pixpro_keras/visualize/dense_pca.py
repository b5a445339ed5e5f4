"""Dense features as colors: the first three principal components of all cells."""

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pixpro_keras.visualize.figures import TEXT, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABEL_WIDTH = 28  # letters beside a panel


def pca_colors(features: np.ndarray) -> np.ndarray:
    """Colors cells by the first three principal components of the features of all images.

    The same color means similar features, in all images. The colors themselves mean nothing.

    Args:
        features: `(B, h, w, C)`, C at least 3.

    Returns:
        `(B, h, w, 3)` float64 in [0, 1]; each component is scaled to the middle 98 % of its values. Cells
        with a value that is not finite are gray.

    Raises:
        ValueError: if there are fewer than three channels or finite cells.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.visualize import pca_colors

        colors = pca_colors(np.random.rand(2, 4, 4, 8))  # (2, 4, 4, 3)
        ```
    """
    cells = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
    is_finite = np.isfinite(cells).all(axis=1)
    colors = np.full((len(cells), 3), 0.5)
    cells = cells[is_finite]
    if min(cells.shape) < 3:
        raise ValueError(
            f"`features` must have three channels and finite cells or more. Received: {features.shape}, "
            f"{len(cells)} finite cells"
        )
    cells = cells - cells.mean(axis=0)
    # Eigenvectors of the covariance, so that the cost does not depend on the number of cells.
    _, directions = np.linalg.eigh(cells.T @ cells)
    components = cells @ directions[:, -1:-4:-1]
    low, high = np.percentile(components, (1, 99), axis=0)
    colors[is_finite] = np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1)
    return colors.reshape(*features.shape[:-1], 3)


def draw_pca(images: np.ndarray, features: Mapping[str, np.ndarray]) -> "Figure":
    """Draws images in the upper row and their features' colors in a row for each network.

    Args:
        images: `(B, H, W, 3)` uint8 RGB.
        features: name of a network -> its maps `(B, h, w, C)`.

    Returns:
        A figure of `1 + len(features)` rows and B columns.

    Raises:
        ValueError: as for `pca_colors`.
        ImportError: if matplotlib is not installed.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.visualize import draw_pca

        images = np.random.randint(0, 256, (2, 64, 64, 3), "uint8")
        figure = draw_pca(images, {"random": np.random.rand(2, 4, 4, 8)})
        ```
    """
    rows = {"image": images} | {name: pca_colors(maps) for name, maps in features.items()}
    figure = new_figure(2.2 * len(images) + 0.4, 2.3 * len(rows))
    panels = figure.subplots(len(rows), len(images), squeeze=False)
    for row, (name, pictures) in enumerate(rows.items()):
        for panel, picture in zip(panels[row], pictures, strict=True):
            panel.imshow(picture, interpolation="nearest")
            panel.set(xticks=[], yticks=[])
        panels[row, 0].set_ylabel(textwrap.fill(name, _LABEL_WIDTH), fontsize=TEXT)
    return figure
