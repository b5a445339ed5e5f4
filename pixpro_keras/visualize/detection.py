"""Pictures of detections next to the ground truth."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pixpro_keras.visualize.figures import SMALL, TITLE, new_figure
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
    min_score: float = 0.0,
) -> "Figure":
    """Draws a row for each image: its ground truth, and the detections with their scores.

    Args:
        images: images `(H, W, 3)` uint8.
        ground_truth: objects of each image: boxes `(n, 4)`, classes `(n,)`, None, and masks
            `(n, H, W)` or None.
        detections: the same with scores `(n,)`.
        class_names: names of the classes.
        min_score: score below which detections were left out, for the title.

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
    titles = ("true objects", f"detections with a score of {min_score:g} or more")
    for row, image in enumerate(images):
        for panel, objects in zip(panels[row], (ground_truth[row], detections[row]), strict=True):
            _draw(panel, image, objects, class_names, colors)
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title, fontsize=TITLE)
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
        # Inside the image, on an opaque box: dark text on bright colors, white on dark ones.
        is_bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.55
        panel.text(
            max(x1, 0),
            max(y1, 0),
            text,
            fontsize=SMALL,
            va="bottom" if y1 > 0.06 * image.shape[0] else "top",
            color="black" if is_bright else "white",
            bbox={"facecolor": (red, green, blue), "edgecolor": "none", "pad": 1},
            clip_on=True,
        )
