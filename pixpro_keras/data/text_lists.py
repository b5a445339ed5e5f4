"""Lists in text files: names of classes, or of the images of a split."""

import os
import pathlib


def read_names(path: str | os.PathLike, keep_blank: bool = False) -> list[str]:
    r"""Reads a UTF-8 text file, with or without a byte order mark, that has one name per line.

    Args:
        path: path of the file.
        keep_blank: whether blank lines between names are empty names, so that the number of a name is
            that of its line; blank lines at the end never are.

    Raises:
        ValueError: if it is not UTF-8.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.data.text_lists import read_names

        file = pathlib.Path(tempfile.mkdtemp()) / "classes.txt"
        file.write_text("traffic light\n\ncar\n", encoding="utf-8-sig")
        assert read_names(file) == ["traffic light", "car"]
        assert read_names(file, keep_blank=True) == ["traffic light", "", "car"]
        ```
    """
    try:
        text = pathlib.Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file of UTF-8: {error}") from error
    # Not `splitlines`, which also splits at rare characters that names may contain.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = [line.strip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines if keep_blank else [line for line in lines if line]
