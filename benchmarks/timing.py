"""Random views for a training step, and the time of a call."""

import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.types import Batch, batch_signature


def random_batch(batch_size: int, image_size: int) -> Batch:
    """Random views and corners, and labels of 0."""
    rng = np.random.default_rng(0)
    return {
        key: tf.constant(rng.random(shape), dtype) if dtype == "float32" else tf.zeros(shape, dtype)
        for key, (shape, dtype) in batch_signature(batch_size, image_size).items()
    }


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Median seconds of a call, after an untimed one."""
    run()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        keras.tree.map_structure(np.array, run())  # Copying waits for the accelerator.
        times.append(time.perf_counter() - started)
    return statistics.median(times)
