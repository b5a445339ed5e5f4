"""Memory of a process."""

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
