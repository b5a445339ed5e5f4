"""Figures drawn without pyplot: no global state, no display, safe in any thread."""

import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from pixpro_keras.utils.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure that the Agg canvas renders.

    Args:
        width: in inches of 100 pixels.
        height: in inches of 100 pixels.

    Raises:
        ImportError: if matplotlib is not installed; says how to install it.
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
    """Renders a figure: `(H, W, 3)` uint8 RGB, as TensorBoard takes it."""
    canvas: Any = figure.canvas  # FigureCanvasAgg; its base class has no pixels.
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def save_figure(figure: "Figure", path: str | os.PathLike) -> None:
    """Writes a figure as PNG; a crash leaves the old file or the new one, never half of it.

    Raises:
        OSError: if the folder cannot be written.
    """
    png = io.BytesIO()
    figure.savefig(png, format="png")
    write_atomically(path, png.getvalue())
