"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[object], rows: Iterable[Iterable[object]]) -> str:
    """Formats rows as a Markdown table.

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
    lines: list[Iterable[object]] = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
