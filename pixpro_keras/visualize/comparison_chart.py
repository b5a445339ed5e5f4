"""Results of several backbones in one task, as bars."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pixpro_keras.visualize.figures import COLORS, SMALL, TEXT, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOR = COLORS[0]


def draw_comparison(
    labels: Sequence[str], measures: Mapping[str, Sequence[float | None]]
) -> "Figure":
    """Draws a panel of bars for each measure, a bar for each backbone.

    Args:
        labels: names of the backbones, from the top.
        measures: name -> values in [0, 1], one for each backbone; None for a missing one.

    Returns:
        A figure with one panel for each measure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if there is no measure, or one has another number of values.

    Example:
        ```python
        from pixpro_keras.visualize import draw_comparison

        figure = draw_comparison(["random", "mine"], {"top-1": [0.1, 0.6], "top-5": [0.4, 0.9]})
        ```
    """
    if not measures:
        raise ValueError("`measures` must have at least one. Received none.")
    for name, values in measures.items():
        if len(values) != len(labels):
            raise ValueError(
                f"`measures` must have {len(labels)} values each. Received: {name!r} with {len(values)}."
            )
    figure = new_figure(2.2 + 2.4 * len(measures), 0.9 + 0.38 * len(labels))
    axes = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    for axis, (name, values) in zip(axes, measures.items(), strict=True):
        widths = [100 * (value or 0.0) for value in values]
        bars = axis.barh(range(len(labels)), widths, height=0.6, color=_COLOR)
        texts = ["-" if value is None else f"{100 * value:.1f}" for value in values]
        axis.bar_label(bars, texts, padding=3, fontsize=SMALL)
        axis.set_xlim(0, 1.2 * max(*widths, 1.0))
        axis.set_xticks(
            [tick for tick in axis.get_xticks() if tick <= min(axis.get_xlim()[1], 100)]
        )
        axis.set_title(f"{name}, %", fontsize=TEXT)
        axis.tick_params(axis="x", labelsize=SMALL)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(labels)), labels, fontsize=TEXT)
    axes[0].invert_yaxis()  # of all panels
    return figure
