"""Progress bars for long, silent work."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

ItemT = TypeVar("ItemT")


class _Bar(tqdm):
    """A bar whose unit, which begins with a space, has none after a slash: `2.50s/images`."""

    @staticmethod
    def format_meter(*args: Any, **kwargs: Any) -> str:
        return tqdm.format_meter(*args, **kwargs).replace("s/ ", "s/")


def open_bar(**settings: Any) -> tqdm:
    """Opens a bar; in a log file, where each update is a line, it updates every 30 s.

    Args:
        **settings: arguments of `tqdm`.
    """
    interval = 0.5 if sys.stderr.isatty() else 30
    return _Bar(dynamic_ncols=True, mininterval=interval, **settings)


def with_bar(
    items: Iterable[ItemT],
    title: str,
    total: int | None = None,
    unit: str = "images",
    size: int = 1,
) -> Iterator[ItemT]:
    """Yields the items and, if it takes more than a second, shows a progress bar.

    Args:
        items: items to process, one after the other.
        title: name of the work.
        total: number of units in all, where it is known.
        unit: unit of the numbers.
        size: number of units of an item, such as the images of a batch.
    """
    with open_bar(desc=title, total=total, unit=f" {unit}", leave=False, delay=1) as bar:
        for item in items:
            yield item
            bar.update(size if total is None else min(size, total - bar.n))
