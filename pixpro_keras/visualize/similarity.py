"""Pictures of the similarities that the propagation module computes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pixpro_keras.layers.pixel_propagation import similarity
from pixpro_keras.ops import to_pixels
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks
from pixpro_keras.visualize.figures import MAX_CELLS_AROUND_NUMBER, TITLE, black_rim, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_QUERY_COLOR = "#19e68c"


def map_to_show(outputs: Mapping[str, Any]) -> Tensor:
    """Selects the map to draw from an encoder's outputs.

    Args:
        outputs: outputs of `Encoder`.

    Returns:
        `(B, h, w, C)`: the map projected for the pixel loss, else the features. Of several levels it is
        P4 of an FPN, or the first of `pixel_levels`.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.visualize import map_to_show

        print(map_to_show({"features": np.zeros((1, 4, 4, 8))}).shape)  # (1, 4, 4, 8)
        ```
    """
    features = outputs.get("pixel", outputs["features"])
    if isinstance(features, Mapping):
        return features["p4"] if "p4" in features else next(iter(features.values()))
    return features


def draw_similarity(
    views: np.ndarray,
    features: Tensor,
    pixels: Sequence[tuple[int, int]] | None = None,
    gamma: float = 2.0,
) -> "Figure":
    """Draws `s(i, j) = max(cos(x_i, x_j), 0) ** gamma` of a few query pixels i over each view.

    Each row is an image: the view, then a map for each query, whose cell is outlined. The scale is
    always 0 to 1, so that collapse is visible: all maps are bright everywhere.

    Args:
        views: `(B, H, W, 3)` uint8 RGB.
        features: `(B, h, w, C)`, inputs of the propagation module.
        pixels: row and column of each query in the feature map; by default one in the middle, one
            in the upper left and one in the lower right.
        gamma: sharpness, positive.

    Returns:
        A figure of B rows and `1 + len(pixels)` columns.

    Raises:
        ValueError: if `gamma` is not positive or a query is outside the map.
        ImportError: if matplotlib is not installed.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, section 3.2.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.visualize import draw_similarity

        views = np.random.randint(0, 256, (1, 64, 64, 3), "uint8")
        figure = draw_similarity(views, np.random.rand(1, 4, 4, 8).astype("float32"))
        ```
    """
    checks.positive("gamma", gamma)
    height, width = features.shape[1:3]
    if pixels is None:
        pixels = [
            (int(y * height), int(x * width)) for y, x in ((0.5, 0.5), (0.2, 0.2), (0.8, 0.8))
        ]
    if not pixels:
        raise ValueError("`pixels` must hold at least one query. Received none.")
    for row, column in pixels:
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(
                f"`pixels` must lie in the {height}x{width} map. Received: {(row, column)}."
            )
    maps = np.asarray(similarity(to_pixels(features), gamma))  # (B, N, N)
    num_images, num_columns = len(views), 1 + len(pixels)
    aspect = views.shape[1] / views.shape[2]
    figure = new_figure(2.5 * num_columns + 0.7, 2.5 * aspect * num_images + 0.5)
    panels = figure.subplots(num_images, num_columns, squeeze=False)
    for index in range(num_images):
        panels[index, 0].imshow(views[index])
        for number, (row, column) in enumerate(pixels):
            heat = maps[index, row * width + column].reshape(height, width)
            image = draw_heat(panels[index, 1 + number], views[index], heat)
            for panel in panels[index, [0, 1 + number]]:
                outline(panel, number + 1, (row, column), (height, width))
    for panel in panels.ravel():
        panel.set(xticks=[], yticks=[])
    panels[0, 0].set_title("view and queries", fontsize=TITLE)
    for number in range(len(pixels)):
        panels[0, 1 + number].set_title(f"similar to query {number + 1}", fontsize=TITLE)
    exponent = "" if gamma == 1 else rf"^{{{gamma:g}}}"
    label = rf"$\max(\cos(x_i, x_j), 0){exponent}$"
    figure.colorbar(image, ax=panels, label=label, aspect=40, pad=0.02)
    return figure


def draw_heat(panel: "Axes", view: np.ndarray, heat: np.ndarray, low: float = 0.0):
    """Lays a map `(h, w)` with a scale from `low` to 1 over a gray view; returns its image."""
    extent = (0, view.shape[1], view.shape[0], 0)
    gray = view.astype("float32") @ (0.299, 0.587, 0.114)
    panel.imshow(gray, cmap="gray", vmin=0, vmax=255, extent=extent)
    return panel.imshow(
        heat, cmap="inferno", vmin=low, vmax=1, alpha=0.65, extent=extent, interpolation="bilinear"
    )


def outline(panel: "Axes", number: int, cell: tuple[int, int], size: tuple[int, int]) -> None:
    """Marks a query's cell, on a panel whose view it covers."""
    from matplotlib.patches import Rectangle

    # In shares of the view, whatever its size in pixels.
    height, width = 1 / size[0], 1 / size[1]
    x, y = cell[1] * width, 1 - (cell[0] + 1) * height
    transform = panel.transAxes
    is_small = max(size) > MAX_CELLS_AROUND_NUMBER
    line = 1.2 if is_small else 2.0
    box = Rectangle((x, y), width, height, fill=False, edgecolor=_QUERY_COLOR, linewidth=line)
    box.set(transform=transform, path_effects=black_rim(2 * line))
    panel.add_patch(box)
    text = panel.text(x + width / 2, y + height / 2, str(number), transform=transform)
    text.set(ha="center", va="center_baseline", weight="bold", color=_QUERY_COLOR)
    if is_small:  # beside it, toward the middle, where there is room
        is_left = 2 * cell[1] < size[1]
        text.set_x(x + width * 1.5 if is_left else x - width / 2)
        text.set_horizontalalignment("left" if is_left else "right")
    text.set_path_effects(black_rim(2.5))
