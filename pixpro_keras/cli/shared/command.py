"""Start and end of a command, and its folder."""

import contextlib
import faulthandler
import pathlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from absl import flags

from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.option_fields import FlagError, Options, OptionsT
from pixpro_keras.cli.shared.interrupt import Interrupt
from pixpro_keras.cli.shared.log import set_up_log
from pixpro_keras.utils.errors import UserError
from pixpro_keras.utils.notices import without_notices

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
        if interrupt.is_raised or isinstance(error, KeyboardInterrupt):
            message, code = "Interrupted.", 128 + signal.SIGINT
        elif isinstance(error, UserError):
            message, code = f"error: {' '.join(str(error).split())}", 1
        else:
            raise
        print(message, file=sys.stderr)
    finally:
        # Only Python's shutdown follows, where an exception in a destructor would only be printed.
        interrupt.remove()
    sys.exit(code or 0)


def _look_for_devices() -> None:
    """Makes TensorFlow look for devices, with the notices of the first call suppressed."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        with without_notices():
            tensorflow.config.list_physical_devices()


def program_of(name: str) -> list[str]:
    """Arguments of `python` that run a command by its module, since an installed package has no scripts.

    Args:
        name: name of the module in `pixpro_keras.cli`.
    """
    return ["-c", f"from pixpro_keras.cli.{name} import main; main()"]


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
