"""Time of a call."""

import statistics
import time
from collections.abc import Callable

import keras
import numpy as np


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Median seconds of a call, after an untimed one."""
    run()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        keras.tree.map_structure(np.array, run())  # Copying waits for the accelerator.
        times.append(time.perf_counter() - started)
    return statistics.median(times)
