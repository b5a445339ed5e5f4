"""How a command starts, fails and ends."""

import contextlib
import faulthandler
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from absl import flags, logging

from pixpro_keras.cli.options.option_fields import FlagError, Options, OptionsT
from pixpro_keras.cli.shared import parsing
from pixpro_keras.utils.errors import UserError

# Parses the flags of any command and ends, for those who check command lines.
_ONLY_CHECK = "--only_check_args"


def run(
    cls: type[OptionsT],
    function: Callable[..., int | None],
    description: str,
    argv: Sequence[str] | None = None,
    *,
    takes_rest: bool = False,
) -> NoReturn:
    """Runs a command and ends the process: with its exit code, or with one line after users' errors.

    Args:
        cls: class of the command's options.
        function: the command, a function of its options; its result is the exit code, None counts as 0.
        description: docstring of the command's module, for `--help`.
        argv: flags; default: the process's.
        takes_rest: whether the function also takes the arguments that are not flags.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parsing.exit_after_help(argv, cls, description)
    faulthandler.enable()
    try:
        only_check = _ONLY_CHECK in argv
        argv = [argument for argument in argv if argument != _ONLY_CHECK]
        options, rest = parsing.parse(cls, argv, with_absl=True)
        flags.FLAGS.mark_as_parsed()
        logging.use_absl_handler()
        if flags.FLAGS["verbosity"].using_default_value:
            logging.set_verbosity(logging.INFO)
        if rest and not takes_rest:
            raise FlagError(f"unexpected argument {rest[0]!r}: flags start with --")
        options.check_required()
        arguments = (options, rest) if takes_rest else (options,)
        code = 0 if only_check else function(*arguments)
    except UserError as error:
        fail(error)
    sys.exit(code or 0)


def fail(error: Exception) -> NoReturn:
    """Ends the process with an error in one line and exit code 1."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(1)


@contextlib.contextmanager
def flag_errors(options: Options, *names: str) -> Iterator[None]:
    """Turns an error of the library about an argument into one about the flags it came from.

    Args:
        options: of the command.
        *names: options that the argument came from.
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:  # of imports: an extra that is missing
        if isinstance(error, UserError):
            raise
        shown = (parsing.serialize(options, name) or [f"--{name}"] for name in names)
        values = " ".join(part for parts in shown for part in parts)
        raise FlagError(f"{values}: {error}") from error


def prepare_workdir(path: str) -> pathlib.Path:
    """Creates `--workdir` of a job that does not train and makes sure that it can be written.

    Raises:
        FlagError: if it cannot, or a training run is there.
    """
    workdir = pathlib.Path(path).expanduser()
    refuse_run(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
    except OSError as error:
        raise FlagError(f"--workdir={path}: {error}") from error
    return workdir


def refuse_run(workdir: pathlib.Path) -> None:
    """Refuses the folder of a training run, for a job that does not train and writes `flags.cfg`.

    Raises:
        FlagError: if a run is there.
    """
    if (workdir / "checkpoints").exists():
        raise FlagError(f"--workdir={workdir}: a run is there, whose flags.cfg would be lost")
