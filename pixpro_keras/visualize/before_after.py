"""Pictures of features before and after training, side by side."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pixpro_keras.visualize.dense_pca import pca_colors
from pixpro_keras.visualize.figures import SMALL, TEXT, new_figure
from pixpro_keras.visualize.similarity import draw_heat, outline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Share of a map's cells that lie below the color scale.
_LOW_PERCENT = 5


def draw_before_after(
    images: np.ndarray,
    features: Mapping[str, np.ndarray],
    places: Sequence[tuple[float, float]] = ((0.5, 0.5), (0.25, 0.25)),
    note: str = "",
) -> "Figure":
    """Draws similarity to chosen places and features as colors, a column for each state of a network.

    Similarities are cosines. A color scale begins at the 5th percentile of a column's values, which
    its title states: 0.9 to 1 means that all cells have nearly the same features. Colors of
    features are their first three principal components, with the same projection for all states.

    Args:
        images: `(B, H, W, 3)` uint8 RGB.
        features: name of a state, as `step 0` -> its maps `(B, h, w, C)`, all of one shape.
        places: row and column of each query, as fractions of height and width in [0, 1).
        note: line below the pictures.

    Returns:
        A figure with a row for each image.

    Raises:
        ValueError: if a place is outside, or there are fewer than three channels or finite cells.
        ImportError: if matplotlib is not installed.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.visualize import draw_before_after

        images = np.random.randint(0, 256, (2, 64, 64, 3), "uint8")
        maps = {f"step {k}": np.random.rand(2, 8, 8, 16).astype("float32") for k in (0, 100)}
        figure = draw_before_after(images, maps)
        ```
    """
    if not all(0 <= share < 1 for place in places for share in place):
        raise ValueError(f"`places` must be shares in [0, 1). Received: {places}.")
    states = {name: _unit_length(maps) for name, maps in features.items()}
    num_images, height, width = next(iter(states.values())).shape[:3]
    cells = [(int(y * height), int(x * width)) for y, x in places]
    columns = 1 + (len(cells) + 1) * len(states)
    aspect = images.shape[1] / images.shape[2]
    figure = new_figure(1.9 * columns, 1.9 * aspect * num_images + 0.6)
    panels = figure.subplots(num_images, columns, squeeze=False)
    for panel in panels.ravel():
        panel.set(xticks=[], yticks=[])
    for index, image in enumerate(images):
        panels[index, 0].imshow(image)
        for number, cell in enumerate(cells):
            outline(panels[index, 0], number + 1, cell, (height, width))
    panels[0, 0].set_title("image and places", fontsize=TEXT)
    column = 1
    for number, (row, place) in enumerate(cells):
        for name, maps in states.items():
            cosines = np.einsum("bhwc,bc->bhw", maps, maps[:, row, place])
            finite = cosines[np.isfinite(cosines)]
            low = min(float(np.percentile(finite, _LOW_PERCENT)), 0.999) if finite.size else 0.0
            for index, image in enumerate(images):
                panel = panels[index, column]
                draw_heat(panel, image, cosines[index], low)
                outline(panel, number + 1, (row, place), (height, width))
            title = f"like {number + 1}, {name}\ncosine {low:.2f} to 1"
            panels[0, column].set_title(title, fontsize=SMALL)
            column += 1
    colors = pca_colors(np.concatenate(list(states.values())))
    for number, name in enumerate(states):
        for index in range(num_images):
            panels[index, column].imshow(
                colors[number * num_images + index], interpolation="nearest"
            )
        panels[0, column].set_title(f"features, {name}\nsame color: alike", fontsize=SMALL)
        column += 1
    if note:
        figure.supxlabel(note, fontsize=SMALL)
    return figure


def _unit_length(maps: np.ndarray) -> np.ndarray:
    maps = np.asarray(maps, np.float32)
    maps = np.where(np.isfinite(maps), maps, np.nan)
    return maps / np.maximum(np.linalg.norm(maps, axis=-1, keepdims=True), 1e-12)
