"""Writing files so that a crash leaves the old one or the new one, never half of it."""

import os
import pathlib
import tempfile


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file through a temporary one beside it.

    Raises:
        OSError: if the folder cannot be written; the old file is then as it was.
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
