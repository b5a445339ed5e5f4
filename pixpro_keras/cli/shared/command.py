"""Start and end of a command, its log and its errors."""

import contextlib
import faulthandler
import logging as python_logging
import os
import pathlib
import signal
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

from absl import flags, logging
from tqdm import tqdm

from pixpro_keras.cli.options.option_fields import FlagError, Options, OptionsT, option_fields
from pixpro_keras.cli.shared import parsing
from pixpro_keras.utils.errors import UserError
from pixpro_keras.utils.notices import without_notices

_PACKAGE = str(pathlib.Path(__file__).resolve().parents[2]) + os.sep

# Flag that makes any command exit after parsing its flags, to check command lines.
_ONLY_CHECK = "--only_check_args"


def run(
    cls: type[OptionsT],
    function: Callable[..., int | None],
    description: str,
    *,
    takes_rest: bool = False,
) -> NoReturn:
    """Runs a command and ends the process with its exit code, or with one line if the user made an error.

    Args:
        cls: class of the command's options.
        function: the command, a function of its options. Its result is the exit code; None counts as 0.
        description: docstring of the command's module, for `--help`.
        takes_rest: whether the function also takes the arguments that are not flags.
    """
    argv = sys.argv[1:]
    parsing.exit_after_help(argv, cls, description)
    faulthandler.enable()
    interrupt = Interrupt()
    try:
        interrupt.install()
        only_check = _ONLY_CHECK in argv
        argv = [argument for argument in argv if argument != _ONLY_CHECK]
        options, rest = parsing.parse(cls, argv, with_absl=True)
        flags.FLAGS.mark_as_parsed()
        set_up_log()
        if rest and not takes_rest:
            raise FlagError(f"unexpected argument {rest[0]!r}: flags start with --")
        options.check_required()
        arguments = (options, rest) if takes_rest else (options,)
        if not only_check:
            _look_for_devices()
        code = 0 if only_check else function(*arguments)
    except (Exception, KeyboardInterrupt) as error:
        if not (interrupt.is_raised or isinstance(error, KeyboardInterrupt)):
            if isinstance(error, UserError):
                fail(error)
            raise
        print("Interrupted.", file=sys.stderr)
        code = 128 + signal.SIGINT
    finally:
        # Only Python's shutdown follows, where an exception in a destructor would only be printed.
        interrupt.remove()
    sys.exit(code or 0)


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


def _look_for_devices() -> None:
    """Makes TensorFlow look for devices, with the notices of the first call suppressed."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        with without_notices():
            tensorflow.config.list_physical_devices()


def fail(error: Exception) -> NoReturn:
    """Ends the process with an error in one line and exit code 1."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(1)


def program_of(name: str) -> list[str]:
    """Arguments of `python` that run a command by its module, since an installed package has no scripts.

    Args:
        name: name of the module in `pixpro_keras.cli`.
    """
    return ["-c", f"from pixpro_keras.cli.{name} import main; main()"]


def refuse_unused(
    options: Options, unused: Mapping[str, str], *, with_defaults: bool = False
) -> None:
    """Refuses given options that have no effect. For those from a flag file the log has a warning.

    Several commands may share a flag file, and `flags.cfg` lists all options.

    Args:
        options: options of the command.
        unused: option -> the reason.
        with_defaults: whether an option on the command line is refused even if its value is the default.

    Raises:
        FlagError: naming the flag and the reason.
    """
    for field in option_fields(type(options)):
        name = field.name
        if name not in unused or not options.is_given(name):
            continue
        is_of_file = name in options.from_files
        if getattr(options, name) == field.default and (is_of_file or not with_defaults):
            continue
        message = f"{' '.join(parsing.serialize(options, name))}: {unused[name]}"
        if not is_of_file:
            raise FlagError(message)
        logging.warning("%s. The flag file's value is not used.", message)


@contextlib.contextmanager
def flag_errors(options: Options, *names: str) -> Iterator[None]:
    """Context that converts an error about an argument to one about its flags.

    Args:
        options: options of the command.
        *names: options that the argument came from. The error shows those that the user gave or that it
            mentions, or all of them if there are none.
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:  # Raised by imports if an extra is missing.
        if isinstance(error, UserError):
            raise
        meant = [
            name for name in names if options.is_given(name) or f"`{name}`" in str(error)
        ] or names
        shown = (parsing.serialize(options, name) or [f"--{name}"] for name in meant)
        values = " ".join(part for parts in shown for part in parts)
        raise FlagError(f"{values}: {error}") from error


@contextlib.contextmanager
def prepare_workdir(options: Options, path: str) -> Iterator[pathlib.Path]:
    """Context that creates `--workdir` of a job that does not train, and locks it.

    A block that fails before it has written anything leaves nothing behind.

    Args:
        options: options of the command.
        path: the folder.

    Yields:
        The folder.

    Raises:
        FlagError: if it cannot be written, is in use, or a training run is there.
    """
    # Imported here, so that commands without computation do not load TensorFlow.
    from pixpro_keras.training.workdir import open_workdir

    refuse_run(pathlib.Path(path).expanduser())
    with contextlib.ExitStack() as stack:
        with flag_errors(options, "workdir"):
            workdir = stack.enter_context(open_workdir(path))
        yield workdir


def refuse_run(workdir: pathlib.Path) -> None:
    """Refuses the folder of a training run, whose `flags.cfg` would be overwritten.

    Raises:
        FlagError: if a run is there.
    """
    if (workdir / "checkpoints").exists():
        raise FlagError(
            f"--workdir={workdir}: contains a run, whose flags.cfg would be overwritten"
        )
