"""Small helpers without TensorFlow: files that survive a crash, checksums, checks, errors.

`utils.summaries` and `utils.memory`, which need TensorFlow, are imported by name.
"""

from pixpro_keras.utils.checks import at_least, in_range, one_of, positive
from pixpro_keras.utils.checksums import (
    ManifestError,
    check_files,
    check_listed,
    listing,
    read_manifest,
    write_manifest,
)
from pixpro_keras.utils.errors import UserError, first_line
from pixpro_keras.utils.files import append, survive_disk, write_atomically

__all__ = [
    "ManifestError",
    "UserError",
    "append",
    "at_least",
    "check_files",
    "check_listed",
    "first_line",
    "in_range",
    "listing",
    "one_of",
    "positive",
    "read_manifest",
    "survive_disk",
    "write_atomically",
    "write_manifest",
]
