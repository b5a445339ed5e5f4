"""Log of a command on the terminal."""

import logging as python_logging
import os
import pathlib
import sys
from collections.abc import Callable

from absl import flags, logging
from tqdm import tqdm

_PACKAGE = str(pathlib.Path(__file__).resolve().parents[2]) + os.sep


def set_up_log() -> None:
    """Sends the log to the terminal: the project's own lines, and warnings of everyone."""
    logging.use_absl_handler()
    # TensorFlow's own handler would show each of its lines a second time.
    python_logging.getLogger("tensorflow").handlers.clear()
    if not flags.FLAGS["verbosity"].using_default_value:
        return  # The user's verbosity, with time and source line.
    logging.set_verbosity(logging.INFO)
    python_logging.getLogger("tensorflow").setLevel(python_logging.WARNING)
    handler = logging.get_absl_handler()
    handler.setFormatter(LogFormatter())
    if not any(isinstance(one, OwnLines) for one in handler.filters):
        handler.addFilter(OwnLines())
        handler.emit = _between_bars(handler.emit)  # type: ignore[method-assign]


def _between_bars(emit: Callable[[python_logging.LogRecord], None]) -> Callable:
    """Wraps `Handler.emit` so that progress bars are hidden while a line is written."""

    def emit_between(record: python_logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=sys.stderr):
            emit(record)

    return emit_between


class LogFormatter(python_logging.Formatter):
    """Formatter of log lines: warnings and errors begin with their level, in color on a terminal."""

    def format(self, record: python_logging.LogRecord) -> str:
        """Returns the text."""
        text = super().format(record)
        if record.levelno < python_logging.WARNING:
            return text
        word = "WARNING" if record.levelno < python_logging.ERROR else "ERROR"
        if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
            color = 33 if word == "WARNING" else 31
            return f"\033[1;{color}m{word}: {text}\033[0m"
        return f"{word}: {text}"


class OwnLines(python_logging.Filter):
    """Filter that drops messages of other packages below warnings, and advice on the code of this one."""

    def filter(self, record: python_logging.LogRecord) -> bool:
        """Returns True if a line is shown."""
        is_own = record.pathname.startswith(_PACKAGE)
        # A comparison traces one function for each network. Arguments may not fit the message's format.
        is_advice = "triggered tf.function retracing" in str(record.msg)
        return is_own or (record.levelno >= python_logging.WARNING and not is_advice)
