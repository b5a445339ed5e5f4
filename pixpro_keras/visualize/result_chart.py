"""Results of several trainings next to the published ones, on separate axes."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pixpro_keras.visualize.figures import COLORS, SMALL, TEXT, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Minimum range of an axis, so that noise is not enlarged.
_NARROWEST = 2.0
_OURS, _PAPER = COLORS[0], COLORS[5]


@dataclasses.dataclass(frozen=True)
class Panel:
    """One measure.

    Attributes:
        title: name of our measure.
        ours: values of the seeds of each row; empty where there are none.
        paper_title: name of the paper's measure; None where it has none.
        paper: the paper's number of each row, or None.

    Example:
        ```python
        from pixpro_keras.visualize import Panel

        panel = Panel("CamVid mIoU", [[0.28, 0.29], [0.33]], "Cityscapes mIoU", [65.3, 77.2])
        ```
    """

    title: str
    ours: Sequence[Sequence[float]]
    paper_title: str | None
    paper: Sequence[float | None]


def draw_results(labels: Sequence[str], panels: Sequence[Panel]) -> "Figure":
    """Draws a panel for each measure, with a line for each row.

    Our results are on the lower axis: a dot for the mean, a line for the range over seeds, a tick
    for each seed. The paper's are diamonds on the upper axis, whose scale is independent: only the
    order of the rows can be compared.

    Args:
        labels: labels of the rows, from the top.
        panels: measures, each with as many rows as there are labels.

    Returns:
        A figure with one panel for each measure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if a panel has another number of rows.

    Example:
        ```python
        from pixpro_keras.visualize import Panel, draw_results

        panel = Panel("top-1", [[60.1, 61.2], [58.0]], "top-1", [62.0, None])
        figure = draw_results(["PixPro", "BYOL"], [panel])
        ```
    """
    for panel in panels:
        if len(panel.ours) != len(labels) or len(panel.paper) != len(labels):
            raise ValueError(
                f"`panels` must have {len(labels)} rows each. Received: {panel.title!r} with "
                f"{len(panel.ours)} and {len(panel.paper)}."
            )
    figure = new_figure(2.2 + 2.7 * len(panels), 1.5 + 0.42 * len(labels))
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, panel in zip(axes, panels, strict=True):
        for place, values in enumerate(panel.ours):
            if values:
                y = place + (0.13 if panel.paper_title is not None else 0)
                axis.plot([min(values), max(values)], [y, y], color=_OURS, linewidth=1.5)
                axis.plot(values, [y] * len(values), "|", color=_OURS, markersize=8)
                axis.plot(sum(values) / len(values), y, "o", color=_OURS, markersize=6)
        if not any(panel.ours):
            axis.set_xlim(0, 1)
            axis.set_xticks([])
            axis.text(0.5, 0.5, "not run", transform=axis.transAxes, ha="center", color=_OURS)
        else:
            _set_range(axis, [value for values in panel.ours for value in values])
        axis.set_xlabel(f"ours: {panel.title}", color=_OURS, fontsize=TEXT)
        axis.tick_params(axis="x", colors=_OURS, labelsize=SMALL)
        axis.grid(axis="y", alpha=0.35)
        axis.set_ylim(len(labels) - 0.5, -0.5)
        if panel.paper_title is not None:
            top = axis.twiny()
            points = [(x, place - 0.13) for place, x in enumerate(panel.paper) if x is not None]
            top.plot(
                [x for x, _ in points], [y for _, y in points], "D", color=_PAPER, markersize=5
            )
            _set_range(top, [x for x, _ in points])
            top.set_xlabel(f"paper: {panel.paper_title}", color=_PAPER, fontsize=TEXT)
            top.tick_params(axis="x", colors=_PAPER, labelsize=SMALL)
    axes[0].set_yticks(range(len(labels)), labels, fontsize=TEXT)
    return figure


def _set_range(axis: "Axes", values: Sequence[float]) -> None:
    if not values:
        return
    low, high = min(values), max(values)
    width = max(1.3 * (high - low), _NARROWEST)
    axis.set_xlim((low + high - width) / 2, (low + high + width) / 2)
    axis.locator_params(axis="x", nbins=5)
