"""Tables in Markdown."""

import re
from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"-?[\d.,]+(e-?\d+)?%?$|-$")  # or "-", which stands for no number


def markdown_table(header: Sequence[object], rows: Iterable[Iterable[object]]) -> str:
    """Formats rows as a Markdown table whose columns are aligned in a terminal too.

    Columns of numbers are aligned on the right, all others on the left.

    Args:
        header: names of the columns.
        rows: cells of each row, as many as there are columns. A `|` is escaped, a line break
            becomes a space.

    Returns:
        One line for the header, one for the rule and one for each row, without a final line break.

    Example:
        ```python
        from pixpro_keras.utils.markdown import markdown_table

        print(markdown_table(["backbone", "top-1"], [["random", "10.0%"], ["mine", "61.3%"]]))
        ```
    """
    lines = [[_cell(value) for value in line] for line in (header, *rows)]
    columns = [_aligned(*column) for column in zip(*lines, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _aligned(head: str, *cells: str) -> list[str]:
    """Pads the cells of a column and adds the rule below its head."""
    width = max(3, *map(len, (head, *cells)))
    if cells and all(_NUMBER.match(cell) for cell in cells):
        return [head.rjust(width), f"{'-' * (width - 1)}:", *(cell.rjust(width) for cell in cells)]
    return [head.ljust(width), "-" * width, *(cell.ljust(width) for cell in cells)]
