"""Simulation of a full disk."""

import contextlib
import resource


@contextlib.contextmanager
def largest_file(size):
    """Limits the size of files in bytes, which acts as a full disk also for root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
