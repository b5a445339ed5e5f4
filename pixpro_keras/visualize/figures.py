"""Figures drawn without pyplot: no global state, no display, safe in any thread."""

import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from pixpro_keras.utils.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# One style for all figures: sizes of text in points, and colors that the color-blind tell apart
# (Okabe and Ito), the first of them for a single line.
TITLE, TEXT, SMALL = 11, 9, 8
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#555555")
# In a finer map, a number would hide its cell.
MAX_CELLS_AROUND_NUMBER = 8


def new_figure(width: float, height: float) -> "Figure":
    """Makes an empty figure that the Agg canvas renders.

    Args:
        width: width in inches of 100 pixels.
        height: height in inches of 100 pixels.

    Returns:
        A figure without panels.

    Raises:
        ImportError: if matplotlib is not installed; names the extra to install.

    Example:
        ```python
        from pixpro_keras.visualize import figure_to_array, new_figure

        figure = new_figure(2, 1)
        figure.subplots().plot([0, 1], [0, 1])
        print(figure_to_array(figure).shape)  # (100, 200, 3)
        ```
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures need matplotlib, which is missing: pip install 'pixpro-keras[viz]'"
        ) from error
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def figure_to_array(figure: "Figure") -> np.ndarray:
    """Renders a figure: `(H, W, 3)` uint8 RGB, as TensorBoard takes it.

    Args:
        figure: figure of `new_figure`.

    Example:
        ```python
        from pixpro_keras.visualize import figure_to_array, new_figure

        print(figure_to_array(new_figure(2, 1)).shape)  # (100, 200, 3)
        ```
    """
    canvas: Any = figure.canvas  # FigureCanvasAgg; its base class has no pixels.
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def save_figure(figure: "Figure", path: str | os.PathLike) -> None:
    """Writes a figure as PNG; a crash leaves the old file or the new one, never half of it.

    Args:
        figure: figure of `new_figure`.
        path: path of the file.

    Raises:
        OSError: if the folder cannot be written.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.visualize import new_figure, save_figure

        save_figure(new_figure(2, 1), pathlib.Path(tempfile.mkdtemp()) / "empty.png")
        ```
    """
    png = io.BytesIO()
    canvas: Any = figure.canvas
    canvas.print_png(png)  # lays the figure out once; `savefig` does so twice
    write_atomically(path, png.getvalue())


def black_rim(linewidth: float, alpha: float = 1.0) -> list[Any]:
    """Path effects that draw a wider black line below lines or text, so that they show on any image.

    Args:
        linewidth: width of the black line in points.
        alpha: its opacity, in [0, 1].

    Example:
        ```python
        from pixpro_keras.visualize.figures import black_rim, new_figure

        panel = new_figure(2, 1).subplots()
        panel.text(0.5, 0.5, "1", color="white", path_effects=black_rim(2.5))
        ```
    """
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=linewidth, foreground="black", alpha=alpha), Normal()]
