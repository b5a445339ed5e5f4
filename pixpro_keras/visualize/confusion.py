"""Pictures of confusion matrices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pixpro_keras.visualize.figures import SMALL, TEXT, TITLE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_NAMES = 40  # More cannot be read.
_NUM_WORST = 12


def draw_confusion_matrix(matrix: np.ndarray, class_names: Sequence[str] | None = None) -> "Figure":
    """Draws a confusion matrix, normalized by rows, and lists the most confused pairs of classes.

    Classes are ordered so that confused ones are neighbors.

    Args:
        matrix: `(K, K)` counts, true classes in rows.
        class_names: K names, shown where they fit.

    Returns:
        A figure with the matrix, a color bar and the list.

    Raises:
        ImportError: if matplotlib is not installed.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.visualize import draw_confusion_matrix

        figure = draw_confusion_matrix(np.array([[3, 1], [0, 2]]), ["cat", "dog"])
        ```
    """
    names = [str(k) for k in range(len(matrix))] if class_names is None else list(class_names)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    order = _order(shares)
    side = 4.0 + 0.2 * min(len(matrix), _MAX_NAMES)
    figure = new_figure(side + 4.5, side)
    axes, text = figure.subplots(1, 2, width_ratios=(side + 1, 3.5))
    image = axes.imshow(shares[np.ix_(order, order)], vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.04, pad=0.02)
    axes.set_xlabel("predicted class", fontsize=TEXT)
    axes.set_ylabel("true class", fontsize=TEXT)
    axes.set_title(f"top-1 {_top1(matrix):.1%}", fontsize=TITLE)
    if len(matrix) <= _MAX_NAMES:
        ticks = [names[k] for k in order]
        axes.set_xticks(range(len(matrix)), ticks, rotation=90, fontsize=SMALL)
        axes.set_yticks(range(len(matrix)), ticks, fontsize=SMALL)
    else:
        axes.set(xticks=[], yticks=[])
    text.axis("off")
    text.set_title("most confused: true as predicted", fontsize=TITLE, loc="left")
    for row, (true, predicted) in enumerate(_worst_pairs(matrix, shares)):
        share, count = shares[true, predicted], matrix[true, predicted]
        line = f"{share:4.0%} ({count:g})  {names[true]} as {names[predicted]}"
        text.text(0, 0.96 - 0.07 * row, line, fontsize=TEXT, va="top", transform=text.transAxes)
    return figure


def _worst_pairs(matrix: np.ndarray, shares: np.ndarray) -> list[tuple[int, int]]:
    """True and predicted class of the most frequent confusions."""
    wrong = np.where(np.eye(len(matrix), dtype=bool), 0, shares)
    places = np.argsort(-wrong, axis=None, kind="stable")[:_NUM_WORST]
    pairs = [divmod(int(place), len(matrix)) for place in places]
    return [(true, predicted) for true, predicted in pairs if wrong[true, predicted] > 0]


def _order(shares: np.ndarray) -> list[int]:
    """Order of the classes in which each is followed by the remaining class it is most confused with."""
    similarity = shares + shares.T
    np.fill_diagonal(similarity, 0)
    order = [int(similarity.max(axis=1).argmax())]
    while len(order) < len(shares):
        candidates = similarity[order[-1]].copy()
        candidates[order] = -1
        order.append(int(candidates.argmax()))
    return order


def _top1(matrix: np.ndarray) -> float:
    return float(np.trace(matrix) / max(matrix.sum(), 1))
