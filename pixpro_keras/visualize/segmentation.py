"""Pictures of predicted masks beside true ones."""

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pixpro_keras.types import IGNORED
from pixpro_keras.visualize.figures import COLORS, SMALL, TITLE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def class_colors(num_classes: int) -> np.ndarray:
    """Distinct colors; up to six of them are also distinct for color-blind readers.

    Args:
        num_classes: number of colors.

    Returns:
        `(num_classes, 3)` RGB in [0, 1].

    Example:
        ```python
        from pixpro_keras.visualize import class_colors

        print(class_colors(3))
        ```
    """
    if num_classes < len(COLORS):  # the last one is gray
        return np.array(
            [[int(c[k : k + 2], 16) / 255 for k in (1, 3, 5)] for c in COLORS[:num_classes]]
        )
    # Steps of the golden ratio around the color circle keep neighbors in number far in hue.
    hues = (0.618034 * np.arange(num_classes)) % 1
    levels = 0.65 + 0.3 * (np.arange(num_classes) % 3) / 2
    return np.array([colorsys.hsv_to_rgb(h, 0.75, v) for h, v in zip(hues, levels, strict=True)])


def draw_segmentations(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    class_names: Sequence[str],
) -> "Figure":
    """Draws a row for each image: the image, its mask and its prediction; with a legend.

    Args:
        images: images `(H, W, 3)` uint8.
        masks: true classes `(H, W)`; 255, which is ignored, is black.
        predictions: predicted classes `(H, W)`; black where the mask is.
        class_names: names of the classes.

    Returns:
        A figure of three columns.

    Raises:
        ImportError: if matplotlib is not installed.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.visualize import draw_segmentations

        image = np.zeros((40, 60, 3), "uint8")
        mask = np.tile(np.arange(60) // 30, (40, 1))
        figure = draw_segmentations([image], [mask], [1 - mask], ["cat", "dog"])
        ```
    """
    from matplotlib.patches import Patch

    colors = np.zeros((256, 3))
    colors[: len(class_names)] = class_colors(len(class_names))
    colors[IGNORED] = 0
    figure = new_figure(12, 3 * len(images) + 1)
    panels = figure.subplots(len(images), 3, squeeze=False)
    for row, (image, mask, prediction) in enumerate(zip(images, masks, predictions, strict=True)):
        shown = np.where(mask == IGNORED, IGNORED, prediction)
        parts = (image, colors[mask], colors[shown])
        titles = ("image", "truth", "prediction")
        for panel, part, title in zip(panels[row], parts, titles, strict=True):
            panel.imshow(part)
            panel.axis("off")
            if row == 0:
                panel.set_title(title, fontsize=TITLE)
    patches = [
        Patch(color=(red, green, blue), label=name)
        for (red, green, blue), name in zip(colors.tolist(), class_names, strict=False)
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=8, fontsize=SMALL)
    return figure
