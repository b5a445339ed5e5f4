"""Pictures of detected objects beside true ones."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pixpro_keras.visualize.figures import new_figure
from pixpro_keras.visualize.segmentation import class_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Boxes, classes, scores (or None) and masks `(n, H, W)` (or None) of an image.
ObjectsToDraw = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]


def draw_detections(
    images: Sequence[np.ndarray],
    ground_truth: Sequence[ObjectsToDraw],
    detections: Sequence[ObjectsToDraw],
    class_names: Sequence[str],
) -> "Figure":
    """Draws a row for each image: its true objects, and the detected ones with their scores.

    Args:
        images: images `(H, W, 3)` uint8.
        ground_truth: objects of each image: boxes `(n, 4)`, classes `(n,)`, None, and masks
            `(n, H, W)` or None.
        detections: the same with scores `(n,)`.
        class_names: names of the classes.

    Returns:
        A figure of two columns.

    Raises:
        ImportError: if matplotlib is not installed.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.visualize import draw_detections

        image = np.zeros((60, 80, 3), "uint8")
        boxes, classes = np.array([[10.0, 10.0, 40.0, 50.0]]), np.array([0])
        figure = draw_detections(
            [image],
            [(boxes, classes, None, None)],
            [(boxes + 2, classes, np.array([0.9]), None)],
            ["cat"],
        )
        ```
    """
    figure = new_figure(12, 4 * len(images) + 1)
    panels = figure.subplots(len(images), 2, squeeze=False)
    colors = class_colors(len(class_names))
    for row, image in enumerate(images):
        for panel, objects, title in zip(
            panels[row], (ground_truth[row], detections[row]), ("truth", "found"), strict=True
        ):
            _draw(panel, image, objects, class_names, colors)
            if row == 0:
                panel.set_title(title, fontsize=10)
    return figure


def _draw(
    panel: "Axes",
    image: np.ndarray,
    objects: ObjectsToDraw,
    class_names: Sequence[str],
    colors: np.ndarray,
) -> None:
    from matplotlib.patches import Rectangle

    boxes, classes, scores, masks = objects
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
