"""Atomic writes of files: a crash leaves the old or the new content."""

import contextlib
import errno
import os
import pathlib
import tempfile
from collections.abc import Iterator

from absl import logging


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file through a temporary file in the same folder.

    Args:
        path: path of the file, whose folder exists.
        content: the whole content.

    Raises:
        OSError: if the folder cannot be written; the old file is then as it was.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.utils import write_atomically

        file = pathlib.Path(tempfile.mkdtemp()) / "results.json"
        write_atomically(file, b"{}")
        assert file.read_bytes() == b"{}"
        ```
    """
    path = pathlib.Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def append(path: str | os.PathLike, content: bytes) -> None:
    r"""Appends to a file, all or nothing.

    Args:
        path: path of the file; created when missing.
        content: bytes that are appended.

    Raises:
        OSError: if it cannot be written; the file then stays unchanged.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.utils import append

        file = pathlib.Path(tempfile.mkdtemp()) / "log.jsonl"
        append(file, b"one\n")
        append(file, b"two\n")
        assert file.read_text().split() == ["one", "two"]
        ```
    """
    with open(path, "ab", buffering=0) as file:
        size = file.tell()
        try:
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        except OSError:
            file.truncate(size)
            raise


@contextlib.contextmanager
def survive_disk(what: str) -> Iterator[None]:
    """Context that converts a disk error to a warning, for files that a run does not need.

    Args:
        what: name of what is written, with which the warning begins.

    Example:
        ```python
        from pixpro_keras.utils import survive_disk

        with survive_disk("A picture"):
            raise OSError("the disk is full")  # warns
        ```
    """
    try:
        yield
    except OSError as error:
        logging.warning("%s cannot be written, the run continues: %s", what, error)
