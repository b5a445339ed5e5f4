"""Found objects beside true ones."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pixpro_keras.visualize.figures import new_figure
from pixpro_keras.visualize.segmentation import class_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Boxes, classes, scores (or None) and masks `(n, H, W)` (or None) of an image.
Drawn = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]


def draw_detections(
    images: Sequence[np.ndarray],
    truth: Sequence[Drawn],
    found: Sequence[Drawn],
    class_names: Sequence[str],
) -> "Figure":
    """A row for each image: what is there, and what was found, with scores.

    Args:
        images: `(H, W, 3)` uint8 each.
        truth: of each image: boxes `(n, 4)`, classes `(n,)`, None, and masks or None.
        found: the same with scores `(n,)`.
        class_names: of the classes.
    """
    figure = new_figure(12, 4 * len(images) + 1)
    panels = figure.subplots(len(images), 2, squeeze=False)
    colors = class_colors(len(class_names))
    for row, image in enumerate(images):
        for panel, drawn, title in zip(
            panels[row], (truth[row], found[row]), ("truth", "found"), strict=True
        ):
            _draw(panel, image, drawn, class_names, colors)
            if row == 0:
                panel.set_title(title, fontsize=10)
    return figure


def _draw(
    panel: "Axes", image: np.ndarray, drawn: Drawn, class_names: Sequence[str], colors: np.ndarray
) -> None:
    from matplotlib.patches import Rectangle

    boxes, classes, scores, masks = drawn
    pixels = image / 255.0
    if masks is not None:
        for mask, label in zip(masks, classes, strict=True):
            pixels[mask] = 0.5 * pixels[mask] + 0.5 * colors[label]
    panel.imshow(pixels)
    panel.axis("off")
    for index, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        red, green, blue = colors[classes[index]].tolist()
        rectangle = Rectangle(
            (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=(red, green, blue), linewidth=1.2
        )
        panel.add_patch(rectangle)
        text = class_names[classes[index]]
        if scores is not None:
            text = f"{text} {scores[index]:.2f}"
        panel.text(x1, y1, text, fontsize=6, color="white", backgroundcolor=(red, green, blue, 0.7))
