"""Short checksum of the parts of something, to notice that it changed."""

import concurrent.futures
import hashlib
import os
from collections.abc import Callable, Iterable

import numpy as np

_DIGITS = 16
_MOST_SAMPLED = 2000
_THREADS = 16  # Asking for a size mostly waits for the disk or the network.


def fingerprint(parts: Iterable[bytes | str]) -> str:
    """Checksum of several parts and of their boundaries, 16 hexadecimal digits.

    Args:
        parts: in their order; text counts as UTF-8.

    Example:
        ```python
        from pixpro_keras.utils.fingerprint import fingerprint

        assert fingerprint(["a.jpg", "b.jpg"]) != fingerprint(["a.jpg", "c.jpg"])
        assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"])
        ```
    """
    checksum = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogateescape") if isinstance(part, str) else part
        checksum.update(len(data).to_bytes(8, "little"))
        checksum.update(data)
    return checksum.hexdigest()[:_DIGITS]


def sample(count: int, most: int = _MOST_SAMPLED) -> list[int]:
    """Numbers below `count`: all, or `most` of them at equal distances.

    Args:
        count: number of things.
        most: largest number of them.

    Example:
        ```python
        from pixpro_keras.utils.fingerprint import sample

        assert sample(3) == [0, 1, 2] and len(sample(10**6)) == 2000
        ```
    """
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64).tolist()


def size_fingerprint(path: Callable[[int], str | os.PathLike], count: int) -> str:
    """Checksum of the sizes of files, or of a `sample` of them.

    Files of other contents rarely have the same sizes, and sizes are known without reading the files.

    Args:
        path: function of a number to the path of that file.
        count: number of files.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.utils.fingerprint import size_fingerprint

        file = pathlib.Path(tempfile.mkdtemp(), "a.jpg")
        file.write_bytes(b"an image")
        before = size_fingerprint([file].__getitem__, 1)
        file.write_bytes(b"another image")
        assert size_fingerprint([file].__getitem__, 1) != before
        ```
    """
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        sizes = list(pool.map(_size, map(path, sample(count))))
    return fingerprint([np.array(sizes, "<i8").tobytes()])


def _size(path: str | os.PathLike) -> int:
    """Size of a file in bytes; -1 if there is none, such as of a link that leads nowhere."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1
