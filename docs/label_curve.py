"""Draws mIoU over the number of labeled images, mean and range over the runs of each.

    python docs/label_curve.py PICTURE 'title=FOLDER/*/segment.json' ...

Each further argument is a line: its title, and a pattern of the results that `pixpro-segment` wrote. Also
prints the table.
"""

import collections
import glob
import json
import pathlib
import statistics
import sys

from pixpro_keras.utils.markdown import markdown_table
from pixpro_keras.visualize.figures import COLORS, TEXT, TITLE, new_figure, save_figure


def read(pattern: str) -> dict[int, list[float]]:
    """Returns mIoU in percent by number of labeled images, smallest number first.

    Subsets of the same share differ by an image or two with the seed; each counts as the most
    frequent number near it.
    """
    results = [json.loads(pathlib.Path(path).read_text()) for path in sorted(glob.glob(pattern))]
    if not results:
        raise SystemExit(f"{pattern}: no such file")
    counts = collections.Counter(result["training images"] for result in results)
    values: dict[int, list[float]] = collections.defaultdict(list)
    for result in results:
        size = result["training images"]
        near = [other for other in counts if abs(other - size) <= 0.15 * size]
        values[max(near, key=lambda other: (counts[other], -other))].append(100 * result["mIoU"])
    return dict(sorted(values.items()))


def main(picture: str, *lines: str) -> None:
    """Writes the picture and prints the table."""
    figure = new_figure(7, 4.4)
    axes = figure.subplots()
    rows = []
    results = {title: read(pattern) for title, pattern in (line.split("=", 1) for line in lines)}
    sizes = sorted({size for values in results.values() for size in values})
    for color, (title, values) in zip(COLORS, results.items(), strict=False):
        means = [statistics.mean(one) for one in values.values()]
        axes.plot([*values], means, "o-", color=color, label=title)
        lows, highs = zip(*((min(one), max(one)) for one in values.values()), strict=True)
        axes.fill_between([*values], lows, highs, color=color, alpha=0.2, linewidth=0)
        cells = [
            f"{statistics.mean(values[n]):.1f} ({min(values[n]):.1f}-{max(values[n]):.1f})"
            if n in values
            else "-"
            for n in sizes
        ]
        rows.append([title, *cells])
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("labeled images", fontsize=TEXT)
    axes.set_ylabel("mIoU (%)", fontsize=TEXT)
    axes.set_title("CamVid: mIoU of frozen features by number of labeled images", fontsize=TITLE)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=TEXT, frameon=False)
    save_figure(figure, picture)
    print(markdown_table(["", *(f"{size} images" for size in sizes)], rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
