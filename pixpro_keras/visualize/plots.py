"""Learning curves of training runs."""

import itertools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pixpro_keras.visualize.figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Bounds = tuple[float | None, float | None]

# Metric -> (title, values that the axis must show), in the order in which they are looked at. With
# fixed ends noise does not look like news.
_CHARTS: dict[str, tuple[str, tuple[float, ...]]] = {
    "loss": ("loss", ()),
    "positive_cosine": ("cosine of positive pairs", (0, 1)),
    "feature_std": ("spread of features (0: collapsed)", (0, 1)),
    "feature_rank": ("effective rank of features (RankMe)", (0,)),
    "positive_share": ("share of positive pairs", (0,)),
    "learning_rate": ("learning rate", (0,)),
    "target_momentum": ("momentum of the target", (1,)),
    "images_per_second": ("images/s", (0,)),
    "input_wait_share": ("share of time waiting for input", (0, 1)),
    "bad_steps": ("steps skipped, not finite", (0,)),
    "memory_mib": ("peak memory (MiB)", (0,)),
}
_NOT_SHOWN = {"step", "epoch", "updates", "bad_steps_in_row"}
_COLUMNS = 3
_BOUND_COLOR = "#c23b22"
# Apart for the color-blind, too; the first is that of a single run.
_COLORS = ("#1f5fa8", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#7a4b00", "#555555")


def plot_metrics(
    metrics_path: str | os.PathLike,
    png_path: str | os.PathLike,
    loss_bounds: Mapping[str, Bounds] | None = None,
) -> None:
    r"""Draws a run's `metrics.jsonl`, one chart per metric, over epochs.

    Args:
        metrics_path: path of lines `{"step": int, "epoch": float, name: value, ...}`. A last line that is
            not finished, as in a run that is going on, is left out.
        png_path: path of the picture.
        loss_bounds: name of each loss term -> its (lowest, highest) value, None for unbounded, as a
            method states them. They are drawn as lines: a loss that reaches its lower bound while
            the features lose their spread has collapsed.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has no finished line.
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
    runs = {"": read_metrics(metrics_path)}
    save_figure(draw_metrics(runs, {"": loss_bounds or {}}), png_path)


def read_metrics(path: str | os.PathLike) -> list[dict]:
    r"""Reads the finished lines of a run's `metrics.jsonl`.

    Args:
        path: path of the file.

    Returns:
        A dict for each line.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has no finished line.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.visualize import read_metrics

        path = pathlib.Path(tempfile.mkdtemp()) / "metrics.jsonl"
        path.write_text('{"step": 1, "epoch": 0.5, "loss": 0.3}\n')
        print(read_metrics(path))
        ```
    """
    lines = pathlib.Path(path).read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    if not records:
        raise ValueError(f"`metrics_path` must have a finished line. Received: {path}.")
    return records


def draw_metrics(
    runs: Mapping[str, Sequence[Mapping]], loss_bounds: Mapping[str, Mapping[str, Bounds]]
) -> "Figure":
    """Draws the metrics of runs, one chart per metric with a line for each run, over epochs.

    Bounds of losses are red, or have the color of the run where only one of several has them.

    Args:
        runs: name -> records as from `read_metrics`. With one run there is no legend.
        loss_bounds: name of a run -> bounds as for `plot_metrics`; runs may be missing.

    Returns:
        A figure with a panel for each metric.

    Raises:
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
    colors = dict(zip(runs, itertools.cycle(_COLORS), strict=False))
    rows = -(-len(names) // _COLUMNS)
    figure = new_figure(4 * _COLUMNS, 2.4 * rows + 0.25 * (len(runs) > 1))
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    lines = {}
    for panel, name in zip(panels, names, strict=False):
        for run, records in runs.items():
            points = [(r["epoch"], r[name]) for r in records if r.get(name) is not None]
            if not points:
                continue  # other methods log other metrics
            (lines[run],) = panel.plot(
                [x for x, _ in points],
                [y for _, y in points],
                "-" if len(points) > 1 else "o",
                color=colors[run],
                linewidth=1.3,
            )
        title, ends = _CHARTS.get(name, (name, ()))
        panel.set_title(title, fontsize=10)
        for end in ends:
            panel.axhline(end, linestyle="none")
        panel.grid(alpha=0.3)
        panel.tick_params(labelsize=8)
        panel.set_xlabel("epoch", fontsize=8)
        panel.ticklabel_format(axis="y", useOffset=False)
        for side, place in (("lower", 0), ("upper", 1)):
            owners: dict[float | None, list[str]] = {}
            for run in runs:
                if name in bounds[run]:
                    owners.setdefault(bounds[run][name][place], []).append(run)
            for bound, owner in owners.items():
                is_own = len(runs) > 1 and len(owner) == 1
                _draw_bound(panel, bound, side, colors[owner[0]] if is_own else _BOUND_COLOR)
    for panel in panels[len(names) :]:
        panel.axis("off")
    if len(runs) > 1:
        figure.legend(lines.values(), lines, loc="outside upper center", ncols=4, fontsize=9)
    return figure


def _bounds_by_metric(loss_bounds: Mapping[str, Bounds]) -> dict[str, Bounds]:
    """The terms' bounds, and those of their sum, which is logged as `loss`."""
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
    """The known metrics that occur, then the others; a loss's only term is the loss itself."""
    present, all_terms = set(), set()
    for run, records in runs.items():
        terms = set(bounds[run]) - {"loss"}
        logged = {name for record in records for name in record} - _NOT_SHOWN
        present |= logged - terms if len(terms) == 1 else logged
        all_terms |= terms
    others = sorted(present - set(_CHARTS), key=lambda name: (name not in all_terms, name))
    return [name for name in _CHARTS if name in present] + others


def _draw_bound(panel: "Axes", bound: float | None, side: str, color: str) -> None:
    if bound is None:
        return
    panel.axhline(bound, color=color, linewidth=1, linestyle="--")
    panel.margins(y=0.15)  # room for its label
    panel.annotate(
        f"{side} bound {bound:g}",
        (1, bound),
        xycoords=("axes fraction", "data"),
        xytext=(-3, -2 if side == "lower" else 2),  # outside, where no curve is
        textcoords="offset points",
        ha="right",
        va="top" if side == "lower" else "bottom",
        fontsize=8,
        color=color,
    )
