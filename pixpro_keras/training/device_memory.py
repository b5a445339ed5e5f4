"""Errors of training steps that need more memory than a device has."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from pixpro_keras.training.run_config import RunConfig
from pixpro_keras.utils.errors import UserError


class DeviceMemoryError(UserError, RuntimeError):
    """A training step needs more memory than a device has."""


@contextlib.contextmanager
def memory_errors(config: RunConfig) -> Iterator[None]:
    """Context that converts TensorFlow's long out-of-memory error to a short one with remedies.

    Args:
        config: configuration of the run.

    Raises:
        DeviceMemoryError: if a device has not enough memory.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        found = re.search(r"OOM when allocating .*?(?= by allocator|$)", str(error), re.MULTILINE)
        why = f" ({found[0]})" if found else ""
        raise DeviceMemoryError(
            f"not enough memory for a step of {config.batch_size} images{why}. A smaller batch_size or "
            "image_size, more accumulate_steps, remat or a precision of 16 bits need less"
        ) from error
