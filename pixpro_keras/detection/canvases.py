"""Canvases: the few static sizes to which images are padded, and the images and scales that share one."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from pixpro_keras.utils import checks

_SIZE_STEP = 32  # the largest stride of a backbone
_MOST_GROUPS = 6
# Number of aspect-ratio ranges that are combined to groups.
_NUM_RANGES = 80


@dataclasses.dataclass(frozen=True)
class Canvases:
    """Canvases of a data set's images.

    Images are in groups of similar shape. All images of a batch are in one group and on one canvas; the
    scales of a group that share a canvas are consecutive.

    Attributes:
        groups: indices of the images of each group, G arrays.
        sizes: `(K, 2)` int32. Height and width of each canvas, multiples of 32.
        numbers: `(G, S)` int32. Canvas of each group and scale, the scales in ascending order.
        padding: mean share of padding in an image, in [0, 1], if all scales are equally likely.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.detection.canvases import plan_canvases

        canvases = plan_canvases(np.array([[40, 60], [60, 40], [40, 60]]), (32, 48), 96)
        print(canvases.sizes.tolist(), canvases.numbers.tolist(), canvases.padding)
        ```
    """

    groups: Sequence[np.ndarray]
    sizes: np.ndarray
    numbers: np.ndarray
    padding: float


def scaled_sides(sizes: np.ndarray, short_side: int, max_side: int) -> np.ndarray:
    """Height and width of scaled images: those of `box_pipeline.scaled_size`, `(N, 2)` float64.

    Args:
        sizes: `(N, 2)`. Height and width in pixels.
        short_side: length of the short side in pixels.
        max_side: longest length of the long side in pixels.
    """
    sides = np.asarray(sizes, np.float32)
    scale = np.minimum(np.float32(short_side) / sides.min(1), np.float32(max_side) / sides.max(1))
    return np.maximum(np.round(sides * scale[:, None]), 1.0).astype(np.float64)


def fitting_canvas(sizes: np.ndarray, short_side: int, max_side: int) -> tuple[int, int]:
    """Smallest height and width, multiples of 32, that hold all of some images after scaling.

    Args:
        sizes: `(N, 2)`. Height and width in pixels.
        short_side: length of the short side in pixels.
        max_side: longest length of the long side in pixels.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.detection.canvases import fitting_canvas

        assert fitting_canvas(np.array([[40, 60], [60, 40]]), 48, 1000) == (96, 96)
        ```
    """
    height, width = _round_up(scaled_sides(sizes, short_side, max_side).max(0)).astype(int).tolist()
    return height, width


def plan_canvases(
    sizes: np.ndarray,
    short_sides: Sequence[int],
    max_side: int,
    num_canvases: int = 12,
    smallest: int = 1,
) -> Canvases:
    """Chooses canvases for images and scales so that there is little padding.

    Images are grouped by their ratio of width to height. Each group and scale starts with the smallest
    canvas that fits; then the two canvases whose union adds the least padding are merged, repeatedly.

    Args:
        sizes: `(N, 2)`. Height and width of the images in pixels.
        short_sides: scales: lengths of the short side in pixels.
        max_side: longest length of the long side in pixels; it takes precedence over the short side.
        num_canvases: largest number of canvases.
        smallest: smallest number of images in a group.

    Raises:
        ValueError: if there are fewer images than `smallest`.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.detection.canvases import plan_canvases

        canvases = plan_canvases(np.array([[40, 60], [60, 40], [40, 60]]), (48,), 96)
        assert [group.tolist() for group in canvases.groups] == [[1], [0, 2]]
        assert canvases.sizes.tolist() == [[96, 64], [64, 96]]
        ```
    """
    checks.at_least("num_canvases", num_canvases, 1)
    sizes, short_sides = np.asarray(sizes), sorted(short_sides)
    groups = _group(sizes, short_sides[-1], max_side, min(_MOST_GROUPS, num_canvases), smallest)
    # Canvas -> number of images and sum of their areas.
    cells: dict[tuple[int, int], np.ndarray] = {}
    needed = []
    for group in groups:
        for side in short_sides:
            canvas = fitting_canvas(sizes[group], side, max_side)
            area = scaled_sides(sizes[group], side, max_side).prod(1).sum()
            needed.append((canvas, len(group), area))
            cells[canvas] = cells.get(canvas, np.zeros(2)) + np.array([len(group), area])
    while len(cells) > num_canvases:
        _merge(cells)
    chosen = sorted(cells, key=lambda size: size[0] * size[1])
    numbers, padding = [], 0.0
    for (height, width), count, area in needed:
        number = next(n for n, (h, w) in enumerate(chosen) if h >= height and w >= width)
        numbers.append(number)
        padding += count - area / np.prod(chosen[number])
    return Canvases(
        groups,
        np.array(chosen, np.int32),
        np.array(numbers, np.int32).reshape(len(groups), -1),
        float(padding) / (len(sizes) * len(short_sides)),
    )


def _merge(cells: dict[tuple[int, int], np.ndarray]) -> None:
    """Merges the two canvases whose union adds the least padding. Changes `cells` in place."""

    def padding(size: tuple[int, int], content: np.ndarray) -> float:
        return content[0] - content[1] / (size[0] * size[1])

    def cost(one: tuple[int, int], two: tuple[int, int]) -> float:
        before = padding(one, cells[one]) + padding(two, cells[two])
        return padding(_both(one, two), cells[one] + cells[two]) - before

    sizes = list(cells)
    pairs = [(one, two) for n, one in enumerate(sizes) for two in sizes[:n]]
    one, two = min(pairs, key=lambda pair: cost(*pair))
    content = cells.pop(one) + cells.pop(two)
    both = _both(one, two)
    cells[both] = cells.get(both, np.zeros(2)) + content


def _both(one: tuple[int, int], two: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], two[0]), max(one[1], two[1])


def _group(
    sizes: np.ndarray, short_side: int, max_side: int, most: int, smallest: int
) -> list[np.ndarray]:
    """Splits images into at most `most` groups by aspect ratio, with the least padding at one scale."""
    if len(sizes) < smallest:
        raise ValueError(f"a batch of {smallest} needs more than {len(sizes)} images")
    ratios = sizes[:, 1] / sizes[:, 0]
    shares = np.linspace(0, 1, _NUM_RANGES + 1)[1:]
    ends = np.unique(np.quantile(ratios, shares, method="inverted_cdf"))
    ranges = np.searchsorted(ends, ratios)
    scaled = scaled_sides(sizes, short_side, max_side)
    largest, areas = np.zeros((len(ends), 2)), np.zeros(len(ends))
    np.maximum.at(largest, ranges, scaled)
    np.add.at(areas, ranges, scaled.prod(1))
    counts = np.bincount(ranges, minlength=len(ends))

    def padding(first: int, end: int) -> float:
        count = counts[first:end].sum()
        canvas = _round_up(largest[first:end].max(0)).prod()
        return count - areas[first:end].sum() / canvas if count >= smallest else np.inf

    return [
        np.flatnonzero((ranges >= first) & (ranges < end))
        for first, end in _best_parts(len(ends), most, padding)
    ]


def _best_parts(count: int, most: int, cost: Callable[[int, int], float]) -> list[tuple[int, int]]:
    """Splits `[0, count)` into at most `most` ranges `[first, end)` of the least total cost."""
    costs = {(i, j): cost(i, j) for j in range(1, count + 1) for i in range(j)}
    # End of a range -> cost and ranges up to it.
    reached: dict[int, tuple[float, list[tuple[int, int]]]] = {0: (0.0, [])}
    best = (np.inf, [(0, count)])
    for _ in range(most):
        reached = {
            end: min(
                (total + costs[start, end], [*parts, (start, end)])
                for start, (total, parts) in reached.items()
                if start < end
            )
            for end in range(1, count + 1)
            if any(start < end for start in reached)
        }
        if count in reached:
            best = min(best, reached[count], key=lambda one: one[0])
    return best[1]


def _round_up(sides: np.ndarray) -> np.ndarray:
    return np.ceil(sides / _SIZE_STEP) * _SIZE_STEP
