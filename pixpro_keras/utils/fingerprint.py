"""Short checksum of the parts of something, to notice that it changed."""

import hashlib
from collections.abc import Iterable

_DIGITS = 16


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
