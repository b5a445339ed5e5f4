"""Orderly end of a run by a signal."""

import signal
import sys
import threading
from typing import Any

import keras
from tqdm import tqdm


class StopOnSignal(keras.callbacks.Callback):
    """Ends the training after the current step on Ctrl-C, SIGTERM or SIGUSR1; at once on a second signal.

    In a notebook, whose process must not end, a second Ctrl-C raises KeyboardInterrupt after the step.
    Schedulers send SIGTERM or SIGUSR1 before they take a machine away. Python delivers signals to the
    main thread only; in another one the callback does nothing.

    Attributes:
        received: the signal that ended the newest training, or None.

    Example:
        ```python
        from pixpro_keras.training.callbacks import StopOnSignal

        stop = StopOnSignal()  # of `callbacks` of `fit`
        assert stop.received is None
        ```
    """

    def __init__(self):
        super().__init__()
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_begin(self, logs=None):
        """Installs the signal handlers; forgets the signal of an earlier training."""
        self.received = None
        if threading.current_thread() is not threading.main_thread():
            return
        self.restore_handlers()  # An error may have ended that training.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            self._previous[number] = signal.signal(number, self._stop)

    def _stop(self, number, frame):
        self.received = signal.Signals(number)
        # A Python handler would run only after the step. A notebook's process must stay nevertheless.
        is_interactive = hasattr(sys, "ps1")
        for known, previous in self._previous.items():
            signal.signal(known, previous if is_interactive else signal.SIG_DFL)
        tqdm.write(f"{self.received.name}: saving after this step; once more to leave at once.")

    def on_train_batch_end(self, batch, logs=None):
        """Stops the training after a signal."""
        if self.received is not None:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Restores the signal handlers."""
        self.restore_handlers()

    def restore_handlers(self) -> None:
        """Restores the signal handlers; for a training that an error ends, which has no `on_train_end`."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


def exit_code_of(number: int) -> int:
    """Exit code of a process that a signal ended: 130 after Ctrl-C, else 143, as after SIGTERM.

    Schedulers restart a job after 143.

    Args:
        number: number of the signal.

    Example:
        ```python
        import signal

        from pixpro_keras.training.callbacks.stop_on_signal import exit_code_of

        assert exit_code_of(signal.SIGUSR1) == 143
        ```
    """
    return 128 + (signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
