"""Time of a call, for benchmarks of one process."""

import statistics
import time
from collections.abc import Callable

import keras
import numpy as np


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Median time of a call, after one that is not counted."""
    run()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        keras.tree.map_structure(np.array, run())  # waits for the accelerator
        times.append(time.perf_counter() - started)
    return statistics.median(times)
