"""A disk that takes no more."""

import contextlib
import resource


@contextlib.contextmanager
def largest_file(size):
    """No file may grow beyond a size: a full disk as root sees it, too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
