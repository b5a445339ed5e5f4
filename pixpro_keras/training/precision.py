"""Choice of the dtype policy for a machine."""

import os

import tensorflow as tf

from pixpro_keras.utils.processor import cpu_flags

__all__ = ["best_precision"]

# CPU flag -> name of the instructions that oneDNN uses.
_CPU_FLAGS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
_LEAST_CAPABILITY = (8, 0)


def best_precision(strategy: str = "auto") -> tuple[str, str]:
    """Chooses `mixed_bfloat16` where devices are faster in bfloat16, else `float32`; says why.

    These are TPUs, NVIDIA GPUs of compute capability 8.0 or more and processors with AMX or AVX512-BF16.
    bfloat16 has the range of float32, so a run needs no loss scale.

    Args:
        strategy: a name of `strategy.STRATEGIES`.

    Returns:
        Name of the dtype policy, and the reason in a few words.

    Example:
        ```python
        from pixpro_keras.training import best_precision

        policy, reason = best_precision()
        assert policy in ("mixed_bfloat16", "float32")
        ```
    """
    if strategy == "tpu" or (strategy == "auto" and os.environ.get("TPU_NAME")):
        return "mixed_bfloat16", "a TPU"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        capability = min(tuple(one.get("compute_capability") or (0, 0)) for one in details)
        found = f"GPU of compute capability {'.'.join(map(str, capability))}"
        return "mixed_bfloat16" if capability >= _LEAST_CAPABILITY else "float32", found
    names = [name for flag, name in _CPU_FLAGS.items() if flag in cpu_flags()]
    if names:
        return "mixed_bfloat16", f"a processor with {' and '.join(names)}"
    return "float32", f"a processor without {' or '.join(_CPU_FLAGS.values())}"
