"""Values in mask files and the classes that they stand for."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import logging

from pixpro_keras.data import python_ops
from pixpro_keras.data.text_lists import read_names
from pixpro_keras.segmentation.mask_source import LabelValues, MaskSource


def read_class_names(path: str | os.PathLike) -> tuple[str, ...]:
    r"""Reads the names of classes, one per line, from class 0 on.

    A blank line is a class without a name, so that the classes after it keep their numbers.

    Args:
        path: path of the list.

    Raises:
        ValueError: if the list is empty or has a name twice.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.segmentation.mask_values import read_class_names

        file = pathlib.Path(tempfile.mkdtemp()) / "classes.txt"
        file.write_text("sky\n\ncar\n")
        assert read_class_names(file) == ("sky", "class 1", "car")
        ```
    """
    lines = read_names(path, keep_blank=True)
    if not lines:
        raise ValueError(f"{path} has no name of a class")
    blank = [str(number + 1) for number, line in enumerate(lines) if not line]
    if blank:
        logging.warning(
            "%s: the blank lines (%s) count as classes without a name", path, ", ".join(blank)
        )
    names = tuple(line or f"class {number}" for number, line in enumerate(lines))
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} names {twice[0]!r} twice")
    return names


def warn_of_gaps(sources: Sequence[MaskSource], ignored: int | None) -> None:
    """Warns of classes that are in no mask, because the values in the masks are not consecutive.

    Args:
        sources: parts of a data set; only those whose classes come from the values in their masks count.
        ignored: value of pixels that do not count.
    """
    counted = values_of(sources)
    missing = set(range(max(counted, default=0))) - {*counted, ignored}
    if missing:
        logging.warning(
            "the masks of %s have only the values %s: %d of %d classes occur nowhere; "
            "--label_map=%s gives the others consecutive numbers",
            " and ".join(dict.fromkeys(source.name for source in sources)),
            ", ".join(map(str, counted)),
            len(missing),
            counted[-1] + 1,
            map_in_a_row(counted),
        )


def values_of(sources: Sequence[MaskSource]) -> list[int]:
    """Returns the values in the masks of several sources, in ascending order; see `MaskSource.values`."""
    return sorted({value for source in sources for value in source.values})


def classes_of_masks(
    masks: Sequence[pathlib.Path], values: LabelValues
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Returns class names for the values in masks that have no list of names, and these values.

    Args:
        masks: files of the masks.
        values: meaning of the values; if it gives classes, no file is read and no value is returned.

    Raises:
        ValueError: if a value cannot be a class, or all masks are of one class.
    """
    if values.classes is not None:
        names = tuple(f"class {number}" for number in range(max(values.classes.values()) + 1))
        return names, ()
    found: dict[int, pathlib.Path] = {}  # The first mask with each value.
    for mask in masks:
        found = dict.fromkeys(values_in(mask).tolist(), mask) | found
    if 255 in found and values.ignored != 255:
        ignored = -1 if values.ignored is None else values.ignored
        raise ValueError(
            f"{found[255]} has the value 255, which --ignore_value={ignored} does not ignore, and is no "
            "class without --label_map: their numbers are 0 to 254"
        )
    counted = sorted(found.keys() - {values.ignored})
    if not set(counted) - {0}:
        raise ValueError(one_class_message(masks[0], values))
    return tuple(f"class {number}" for number in range(counted[-1] + 1)), tuple(counted)


def values_in(mask: pathlib.Path) -> np.ndarray:
    """Returns the values in a mask file, in ascending order; none if it cannot be read."""
    try:
        return np.unique(python_ops.load_indexed(mask.read_bytes()))
    except (OSError, SyntaxError):  # Reported as a broken image when it is read.
        return np.zeros(0, np.uint8)


def warn_of_palettes(masks: Sequence[pathlib.Path]) -> None:
    """Warns if masks show one value in different colors, so that it may stand for different classes.

    Programs that reduce the colors of each file number them by file.

    Args:
        masks: files of the masks.
    """
    # The first mask with each value, and its color there.
    first: dict[int, tuple[pathlib.Path, str]] = {}
    for mask in masks:
        for value, color in _colors_in(mask).items():
            other, other_color = first.setdefault(value, (mask, color))
            if color != other_color:
                logging.warning(
                    "the value %d has the color %s in %s and %s in %s, so that it may be another class in "
                    "each; masks are read by their values, not by the colors of their palettes",
                    value,
                    other_color,
                    other,
                    color,
                    mask,
                )
                return


def _colors_in(mask: pathlib.Path) -> dict[int, str]:
    """Colors of the values in a mask with a palette, such as `#ff0000`; none without one."""
    from PIL import Image

    try:
        with Image.open(mask) as image:
            if image.mode != "P":
                return {}
            palette, values = image.getpalette("RGB") or [], np.unique(np.asarray(image)).tolist()
    except (OSError, SyntaxError, ValueError):  # Reported as a broken image when it is read.
        return {}
    colors = {value: palette[3 * value : 3 * value + 3] for value in values}
    return {value: f"#{bytes(color).hex()}" for value, color in colors.items() if color}


def one_class_message(mask: pathlib.Path, values: LabelValues) -> str:
    """Returns the error for masks of one class, with a remedy that the values in one mask suggest."""
    present = values_in(mask).tolist()
    way = ""
    if values.ignored in present and len(present) > 1:
        way = (
            f". If {values.ignored} is a class too, --label_map={map_in_a_row(present)} gives each "
            "value its class; --ignore_value names another value to ignore"
        )
    ignored = "" if values.ignored is None else f" beside {values.ignored}, which is ignored,"
    return (
        f"all masks, such as {mask}, hold one class or none{ignored} so nothing can be learned{way}"
    )


def map_in_a_row(values: Sequence[int]) -> str:
    """Returns a `--label_map` that gives values consecutive numbers."""
    return ",".join(f"{value}:{number}" for number, value in enumerate(values))
