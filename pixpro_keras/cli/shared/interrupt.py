"""Ctrl-C during a command."""

import os
import signal
import sys
import types

# Files that call callbacks of weak references and TensorFlow's Python functions.
_SWALLOWING = ("weakref.py", "_weakrefset.py", "script_ops.py")
_SOON, _LATER = 0.05, 3.0  # seconds


class Interrupt:
    """Handler of SIGINT that raises KeyboardInterrupt, and sends the signal again if that is lost.

    In destructors and callbacks of weak references, where Python only prints exceptions, the handler does
    not raise but sends the signal again a moment later. TensorFlow's C++ part may convert the exception or
    ignore it: hence `is_raised`, and another signal some seconds later. A system timer sends it, since a
    thread cannot be started safely in a handler. Exceptions that C++ code ignores are not printed.

    Attributes:
        is_raised: whether KeyboardInterrupt was raised, so that later errors may result from it.
    """

    def __init__(self):
        self.is_raised = False

    def install(self) -> None:
        """Installs the handler."""
        signal.signal(signal.SIGINT, self)
        signal.signal(signal.SIGALRM, self._send_again)
        sys.unraisablehook = self._show

    def remove(self) -> None:
        """Restores the default handler of SIGINT, stops the timer and shows all exceptions."""
        sys.unraisablehook = sys.__unraisablehook__
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0)

    def __call__(self, number: int, frame: types.FrameType | None) -> None:
        """Handles the signal.

        Raises:
            KeyboardInterrupt: unless Python would discard it here.
        """
        is_lost = False
        while frame is not None and not is_lost:
            code = frame.f_code
            is_lost = code.co_name == "__del__" or os.path.basename(code.co_filename) in _SWALLOWING
            frame = frame.f_back
        signal.setitimer(signal.ITIMER_REAL, _SOON if is_lost else _LATER)
        if not is_lost:
            self.is_raised = True
            raise KeyboardInterrupt

    def _show(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Shows an exception that C++ code ignores, unless it results from the signal."""
        # An import in C reports the signal's exception as a SystemError.
        results = KeyboardInterrupt | SystemError
        if not (self.is_raised and issubclass(unraisable.exc_type, results)):
            sys.__unraisablehook__(unraisable)

    def _send_again(self, *_) -> None:
        # By default the signal would end a run that is saving.
        if signal.getsignal(signal.SIGINT) != signal.SIG_DFL:
            os.kill(os.getpid(), signal.SIGINT)
