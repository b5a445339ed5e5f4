"""Features of the processor, and presence of an accelerator."""

import pathlib

import tensorflow as tf

# File of Linux with the features of the processor.
_CPU_INFO = pathlib.Path("/proc/cpuinfo")


def cpu_flags() -> set[str]:
    """Names of the processor's features as Linux gives them (`amx_bf16`); empty on other systems."""
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def has_accelerator() -> bool:
    """True if TensorFlow has a GPU or a TPU. Sets up its devices."""
    return any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))
