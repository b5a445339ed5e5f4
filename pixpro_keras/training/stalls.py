"""Warning about slow input."""

import contextlib
import threading
import time
from collections.abc import Iterator

from absl import logging

# Longest wait for a batch without a warning.
STALL_SECONDS = 60.0


@contextlib.contextmanager
def warn_of_stall(step: int, seconds: float) -> Iterator[None]:
    """Context that warns about a long wait inside it, and again each time the wait has doubled.

    Another thread warns, since the waiting one cannot. Starting it costs 0.1 ms.

    Args:
        step: number of the step, from 1, whose batch is waited for.
        seconds: longest wait without a warning, positive.

    Example:
        ```python
        from pixpro_keras.training.stalls import warn_of_stall

        batches = iter([1, 2, 3])
        with warn_of_stall(step=1, seconds=60.0):
            batch = next(batches)
        ```
    """
    started, has_come = time.monotonic(), threading.Event()

    def watch() -> None:
        allowed = seconds
        while not has_come.wait(allowed):
            waited = time.monotonic() - started
            logging.warning(
                "Waiting for the images of step %d for %.3g s: the disk or the network is slow, or "
                "does not answer.",
                step,
                waited,
            )
            allowed = waited

    threading.Thread(target=watch, name="stall", daemon=True).start()
    try:
        yield
    finally:
        has_come.set()
