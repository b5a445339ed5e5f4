"""Settings of TensorFlow that must precede its import; a job imports this module first."""

import contextlib
import ctypes
import os

# Its C++ part then tells fatal errors only; others come as exceptions. What it logs as an error is often
# none, as of processors without AVX-512, or has no name, as of a broken image, which the job names.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN's kernels. TensorFlow takes them by itself only on processors with AVX512-VNNI or newer, but those
# with AVX2 gain as well: 1.6 times the steps/s of PixPro on ResNet-18 (`benchmarks/README.md`).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# From glibc's malloc.h.
_M_ARENA_MAX = -8


def _limit_arenas() -> None:
    """One heap for each processor, where glibc makes up to eight.

    What a graph's optimization leaves in a heap is of no use to the others: ResNet-50's step holds
    140 MiB less on two cores. Large tensors are not in these heaps.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other systems have no such call
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, os.cpu_count() or 1)


_limit_arenas()
