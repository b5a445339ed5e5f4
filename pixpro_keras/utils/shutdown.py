"""End of the process without a deadlock between input threads and the interpreter.

Destroying an iterator of `tf.data` waits for its threads. Those that run a Python function ask for the
interpreter, which lets no other thread in once it shuts down and collects its last garbage: a process that
destroys the iterator then, such as one of the frames of an error's traceback, would never end.
"""

import atexit
import gc
import sys
import traceback


def release_iterators() -> None:
    """Destroys objects held only by the last traceback or by reference cycles, at the end of the process."""
    error = getattr(sys, "last_value", None)
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()
    gc.freeze()  # Remaining objects are in use and need not be scanned again.


def release_iterators_at_exit() -> None:
    """Registers `release_iterators` to run while Python still runs in all threads."""
    atexit.register(release_iterators)
