"""Pictures of confusion matrices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pixpro_keras.visualize.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_NAMES = 40  # more than that cannot be read


def draw_confusion_matrix(matrix: np.ndarray, class_names: Sequence[str] | None = None) -> "Figure":
    """Draws a confusion matrix as shares of each row.

    Args:
        matrix: `(K, K)` counts, true classes in rows.
        class_names: K names, shown where they fit.

    Returns:
        A figure with one panel and a color bar.

    Raises:
        ImportError: if matplotlib is not installed.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.visualize import draw_confusion_matrix

        figure = draw_confusion_matrix(np.array([[3, 1], [0, 2]]), ["cat", "dog"])
        ```
    """
    side = 4.0 + 0.2 * min(len(matrix), _MAX_NAMES)
    figure = new_figure(side + 1, side)
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(image, ax=axes, label="share of the class")
    axes.set(xlabel="predicted", ylabel="label", title=f"top-1 {_top1(matrix):.1%}")
    if class_names is not None and len(matrix) <= _MAX_NAMES:
        axes.set_xticks(range(len(matrix)), class_names, rotation=90)
        axes.set_yticks(range(len(matrix)), class_names)
    return figure


def _top1(matrix: np.ndarray) -> float:
    return float(np.trace(matrix) / max(matrix.sum(), 1))
