"""Settings of TensorFlow that must precede its import; a job imports this module first."""

import contextlib
import ctypes
import os

# Its C++ part then logs fatal errors only; others are raised as exceptions. Its other messages are often
# no errors (missing AVX-512) or lack details (broken images, which the job reports).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN's kernels. TensorFlow enables them by default only on processors with AVX512-VNNI or newer, but
# AVX2 gains as well: 1.6 times the steps/s of PixPro with ResNet-18 (`benchmarks/README.md`).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# From glibc's malloc.h.
_M_ARENA_MAX = -8


def _limit_arenas() -> None:
    """Limits glibc to one heap per processor; its default is up to eight.

    Memory that graph optimization frees in one heap cannot be used by others. With fewer heaps, a
    ResNet-50 step needs 140 MiB less on two cores. Large tensors are not in these heaps.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    # Other systems do not have this call.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, os.cpu_count() or 1)


_limit_arenas()
