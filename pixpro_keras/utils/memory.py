"""Memory of a process, and of the machine."""

import os
import pathlib
import resource
import sys

import tensorflow as tf


def memory_mib() -> float:
    """Peak memory in MiB: of the first GPU where there is one, else of this process.

    Example:
        ```python
        from pixpro_keras.utils.memory import memory_mib

        assert memory_mib() > 0
        ```
    """
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


# Files with the memory limit of a container, for both versions of Linux's control groups.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_mib() -> float:
    """Memory of the machine in MiB, or of its container if that has less.

    Example:
        ```python
        from pixpro_keras.utils.memory import machine_mib, memory_mib

        assert machine_mib() > memory_mib()
        ```
    """
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(pathlib.Path, _LIMITS):
        if path.exists() and (text := path.read_text().strip()).isdecimal():
            sizes.append(int(text))
    return min(sizes) / 2**20
