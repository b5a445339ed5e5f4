"""Learning curves of training runs."""

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pixpro_keras.utils.metrics_file import read_metrics
from pixpro_keras.visualize.figures import COLORS, SMALL, TEXT, TITLE, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Bounds = tuple[float | None, float | None]

# Metric -> title, in the order of the panels.
_CHARTS: dict[str, str] = {
    "loss": "loss",
    "positive_cosine": "cosine of positive pairs",
    "instance_cosine": "cosine of two views of an image",
    "feature_std": "spread of features (0: collapsed)",
    "feature_rank": "effective rank of the features",
    "knn_top1": "evaluation: k-NN top-1",
    "cells_miou": "evaluation: mIoU of cells",
    "positive_share": "share of positive pairs",
    "learning_rate": "learning rate",
    "target_momentum": "momentum of the target",
    "images_per_second": "images/s",
    "input_wait_share": "share of time waiting for input",
    "bad_steps": "steps skipped, not finite",
    "memory_mib": "peak memory (MiB)",
}
# Minimum range of an axis, so that noise is not enlarged.
_ENDS = {"images_per_second": (0.0,), "input_wait_share": (0.0, 0.1)}
_NOT_SHOWN = {"step", "epoch", "updates", "bad_steps_in_row"}
_COLUMNS = 3
_MAX_MARKED = 20  # Largest number of points of a line that are marked.


def plot_metrics(
    metrics_path: str | os.PathLike,
    png_path: str | os.PathLike,
    loss_bounds: Mapping[str, Bounds] | None = None,
    evaluations: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    r"""Draws a run's `metrics.jsonl`, one chart per metric, over steps.

    Args:
        metrics_path: path of lines `{"step": int, "epoch": float, name: value, ...}`. An incomplete
            last line, as in a running job, is ignored.
        png_path: path of the picture.
        loss_bounds: name of each loss term -> its (lowest, highest) value, None for unbounded, as a
            method states them. The chart's title states them: a loss at its lower bound with a
            falling `feature_std` means collapse.
        evaluations: measure -> value in [0, 1] for each set of weights, such as `{"k-NN top-1":
            {"random": 0.14, "pre-trained": 0.23}}`; a chart of their own.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has no finished line, or no metric to draw.
        ImportError: if matplotlib is not installed.

    Example:
        ```python
        import json
        import pathlib
        import tempfile

        from pixpro_keras.visualize import plot_metrics

        folder = pathlib.Path(tempfile.mkdtemp())
        lines = [json.dumps({"step": s, "epoch": s / 2, "loss": 1 / s}) + "\n" for s in (1, 2, 3)]
        (folder / "metrics.jsonl").write_text("".join(lines))
        plot_metrics(folder / "metrics.jsonl", folder / "metrics.png")
        ```
    """
    records = read_metrics(metrics_path)
    if not records:
        raise ValueError(f"`metrics_path` must have a finished line. Received: {metrics_path}.")
    try:
        figure = draw_metrics({"": records}, {"": loss_bounds or {}}, evaluations)
    except ValueError as error:
        raise ValueError(f"{metrics_path}: {error}") from error
    save_figure(figure, png_path)


def draw_metrics(
    runs: Mapping[str, Sequence[Mapping]],
    loss_bounds: Mapping[str, Mapping[str, Bounds]],
    evaluations: Mapping[str, Mapping[str, float]] | None = None,
) -> "Figure":
    """Draws the metrics of runs, one chart per metric with a line for each run, over steps.

    Axes are fitted to the data, and begin at step 0. The title of a loss states its bounds, for
    each run if they differ. A count that is always 0 has no chart.

    Args:
        runs: name -> records as from `read_metrics`. With one run there is no legend.
        loss_bounds: name of a run -> bounds as for `plot_metrics`; runs may be missing.
        evaluations: as for `plot_metrics`.

    Returns:
        A figure with a panel for each metric, and one for the evaluations.

    Raises:
        ValueError: if there is no metric to draw.
        ImportError: if matplotlib is not installed.

    Example:
        ```python
        from pixpro_keras.visualize import draw_metrics

        records = [{"step": s, "epoch": s, "loss": 1 / s} for s in (1, 2, 3)]
        figure = draw_metrics({"mine": records, "yours": records}, {})
        ```
    """
    bounds = {run: _bounds_by_metric(loss_bounds.get(run, {})) for run in runs}
    names = _metrics_to_show(runs, bounds)
    colors = dict(zip(runs, itertools.cycle(COLORS), strict=False))
    num_panels = len(names) + bool(evaluations)
    if not num_panels:
        logged = sorted(
            {name for records in runs.values() for record in records for name in record}
        )
        raise ValueError(f"`runs` must have a metric to draw. Received: {', '.join(logged)}.")
    columns = min(num_panels, _COLUMNS)
    rows = -(-num_panels // columns)
    figure = new_figure(4 * _COLUMNS, 2.6 * rows + 0.25 * (len(runs) > 1))
    lines: dict[str, Line2D] = {}
    for number, name in enumerate(names):
        panel = figure.add_subplot(rows, columns, number + 1)
        lines |= _draw_metric(panel, name, runs, colors)
        ends = _describe_bounds({run: bounds[run][name] for run in runs if name in bounds[run]})
        panel.set_title(ends, fontsize=SMALL, loc="right", color=COLORS[-1])
    if evaluations:
        _draw_evaluations(figure.add_subplot(rows, columns, num_panels), evaluations)
    if len(runs) > 1:
        figure.legend(lines.values(), lines, loc="outside upper center", ncols=4, fontsize=TEXT)
    return figure


def _draw_metric(
    panel: "Axes", name: str, runs: Mapping[str, Sequence[Mapping]], colors: Mapping[str, str]
) -> "dict[str, Line2D]":
    """Draws a metric over steps; returns the line of each run that has it."""
    lines = {}
    for run, records in runs.items():
        points = [(r["step"], r[name]) for r in records if r.get(name) is not None]
        if not points:
            continue  # other methods log other metrics
        (lines[run],) = panel.plot(
            *zip(*points, strict=True),
            "-" if len(points) > _MAX_MARKED else "o-",
            color=colors[run],
            linewidth=1.5,
            markersize=3,
        )
    panel.set_title(_CHARTS.get(name, name), fontsize=TITLE, loc="left")
    panel.grid(alpha=0.3)
    panel.tick_params(labelsize=SMALL)
    panel.set_xlabel("step", fontsize=SMALL)
    panel.set_xlim(left=0)
    for end in _ENDS.get(name, ()):
        panel.axhline(end, linestyle="none")
    panel.ticklabel_format(axis="y", useOffset=False)
    return lines


def _draw_evaluations(panel: "Axes", evaluations: Mapping[str, Mapping[str, float]]) -> None:
    """Draws a row for each measure, with a labeled point for each backbone."""
    colors: dict[str, str] = {}
    for row, values in enumerate(evaluations.values()):
        panel.plot([100 * v for v in values.values()], [row] * len(values), color="#cccccc")
        for number, (weights, value) in enumerate(values.items()):
            colors.setdefault(weights, COLORS[(len(colors) + 1) % len(COLORS)])
            panel.plot(100 * value, row, "o", color=colors[weights])
            below = number % 2 == 0
            panel.annotate(
                f"{100 * value:.1f}",
                (100 * value, row),
                xytext=(0, -6 if below else 6),
                textcoords="offset points",
                ha="center",
                va="top" if below else "bottom",
                fontsize=SMALL,
                color=colors[weights],
            )
    for row, name in enumerate(evaluations):
        panel.text(0.02, row - 0.3, name, fontsize=SMALL, transform=panel.get_yaxis_transform())
    panel.set(yticks=[], ylim=(len(evaluations) - 0.5, -0.7))
    panel.set_title("evaluation, %", fontsize=TITLE, loc="left")
    panel.margins(x=0.1)
    panel.tick_params(labelsize=SMALL)
    for weights, color in colors.items():
        panel.plot([], [], "o", color=color, label=weights)
    panel.legend(
        fontsize=SMALL, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False
    )


def _describe_bounds(bounds: Mapping[str, Bounds]) -> str:
    """Text of a loss's bounds, per run if they differ; empty if there are none."""
    texts = {run: _describe(*ends) for run, ends in bounds.items()}
    if len(set(texts.values())) <= 1:
        return next(iter(texts.values()), "")
    return "\n".join(f"{run}: {text}" for run, text in texts.items() if text)


def _describe(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        known = [
            f"{word} {end:g}"
            for word, end in (("at least", low), ("at most", high))
            if end is not None
        ]
        return known[0] if known else ""
    return f"in [{low:g}, {high:g}]"


def _bounds_by_metric(loss_bounds: Mapping[str, Bounds]) -> dict[str, Bounds]:
    """Bounds of the loss terms, and of their sum, which is logged as `loss`."""
    if not loss_bounds:
        return {}
    lows, highs = zip(*loss_bounds.values(), strict=True)
    return {**loss_bounds, "loss": (_sum(lows), _sum(highs))}


def _sum(bounds: Sequence[float | None]) -> float | None:
    known = [bound for bound in bounds if bound is not None]
    return sum(known) if len(known) == len(bounds) else None


def _metrics_to_show(
    runs: Mapping[str, Sequence[Mapping]], bounds: Mapping[str, Mapping[str, Bounds]]
) -> list[str]:
    """Known metrics that occur, then others. A single loss term is omitted, since it equals the loss."""
    present, all_terms = set(), set()
    for run, records in runs.items():
        terms = set(bounds[run]) - {"loss"}
        logged = {name for record in records for name in record} - _NOT_SHOWN
        if not any(record.get("bad_steps") for record in records):
            logged.discard("bad_steps")
        present |= logged - terms if len(terms) == 1 else logged
        all_terms |= terms
    others = sorted(present - set(_CHARTS), key=lambda name: (name not in all_terms, name))
    return [name for name in _CHARTS if name in present] + others
