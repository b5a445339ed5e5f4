"""Conversion of command lines and flag files to options and back, by absl."""

import inspect
import pathlib
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging

from pixpro_keras.cli.options import presets
from pixpro_keras.cli.options.option_fields import (
    FlagError,
    Options,
    OptionsT,
    closest,
    option_fields,
    value_type,
)
from pixpro_keras.utils.files import write_atomically

FLAGS_FILE = "flags.cfg"
# Type of an option -> absl's definition of its flag.
_DEFINE: dict[type, Callable] = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    tuple: flags.DEFINE_list,
    str: flags.DEFINE_string,
}


def define_flags(cls: type[Options]) -> flags.FlagValues:
    """Returns absl flags of a class of options, apart from absl's global ones."""
    values = flags.FlagValues()
    for field in option_fields(cls):
        kind, data = value_type(field), field.metadata
        default: Any = list(field.default) if isinstance(field.default, tuple) else field.default
        define = _DEFINE[kind]
        arguments: tuple = (field.name, default, data["description"])
        if kind is tuple and data["is_repeated"]:
            define = flags.DEFINE_multi_string
        if kind is str and data["choices"]:
            define = flags.DEFINE_enum
            arguments = (field.name, default, data["choices"], data["description"])
        define(*arguments, flag_values=values)
    return values


def parse(
    cls: type[OptionsT],
    argv: Sequence[str],
    *,
    known_only: bool = False,
    with_absl: bool = False,
) -> tuple[OptionsT, list[str]]:
    """Options from flags, those of flag files and presets included.

    Args:
        cls: class of the options.
        argv: flags, without the program's name.
        known_only: whether flags that the class does not have are ignored.
        with_absl: whether absl's own flags, such as `--verbosity`, are parsed too.

    Returns:
        The options and the arguments that are not flags.

    Raises:
        FlagError: if a flag does not exist or its value cannot be used.
    """
    values = define_flags(cls)
    if with_absl:
        values.append_flag_values(flags.FLAGS)
    try:
        rest = values(["", *presets.expand(argv)], known_only=known_only)[1:]
    except flags.UnrecognizedFlagError as error:
        raise _unknown_flag(error.flagname, list(values)) from error
    except flags.Error as error:
        raise FlagError(str(error)) from error
    given = _given(cls, values)
    values(["", *presets.expand(argv, is_read=False)], known_only=True)
    direct = _given(cls, values)
    options = cls(
        **given, given=frozenset(given), from_files=frozenset(given.keys() - direct.keys())
    )
    return options, rest


def _unknown_flag(name: str, names: Sequence[str]) -> FlagError:
    close = closest(name, names)
    if close is None and name.startswith("no"):
        close = closest(name.removeprefix("no"), names)
    hint = f"did you mean --{close}?" if close else "--help lists all flags"
    return FlagError(f"--{name}: there is no such flag; {hint}")


def _given(cls: type[Options], values: flags.FlagValues) -> dict[str, Any]:
    """Options given on the last parsed command line. Resets the flags to their defaults."""
    names = [field.name for field in option_fields(cls) if values[field.name].present]
    given = {name: values[name].value for name in names}
    for name in names:
        values[name].unparse()
    return given


def load(cls: type[OptionsT], file: pathlib.Path) -> OptionsT:
    """Options of a flag file, as far as the class has them.

    Raises:
        FlagError: if the file cannot be read or a value cannot be used, naming the file.
    """
    try:
        return parse(cls, [f"--flagfile={file}"], known_only=True)[0]
    except FlagError as error:
        raise FlagError(f"{file}: {error}") from error


def serialize(options: Options, *names: str) -> list[str]:
    """Flags that give the same options again, without those whose value is None.

    Args:
        options: the options.
        *names: those to serialize; default: all.
    """
    values = define_flags(type(options))
    lines: list[str] = []
    for field in option_fields(type(options)):
        value = getattr(options, field.name)
        if value is None or (names and field.name not in names):
            continue
        values[field.name].value = list(value) if isinstance(value, tuple) else value
        lines += values[field.name].serialize().splitlines()
    return lines


def write_flags(
    options: Options,
    workdir: pathlib.Path,
    but: Sequence[str] = (),
    comments: Sequence[str] = (),
) -> None:
    """Writes `flags.cfg`: the value of every option of the job, which alone repeats the run.

    If the run continues with other flags than before, the log lists them.

    Args:
        options: resolved options of the job.
        workdir: folder of the file.
        but: names of options to leave out.
        comments: lines above the flags.
    """
    names = [field.name for field in option_fields(type(options)) if field.name not in but]
    lines = sorted(serialize(options, *names))
    file = workdir / FLAGS_FILE
    if file.exists():
        before, now = set(read_flags(file)), set(lines)
        if before != now:
            logging.warning(
                "This run began with other flags: was %s, is %s",
                " ".join(sorted(before - now)) or "default",
                " ".join(sorted(now - before)) or "default",
            )
    lines = [*(f"# {comment}" for comment in comments), *lines]
    write_atomically(file, ("\n".join(lines) + "\n").encode())


def read_flags(file: pathlib.Path) -> list[str]:
    """Lines of a `flags.cfg` without its comments.

    Raises:
        OSError: if it cannot be read.
    """
    return [line for line in file.read_text().splitlines() if not line.startswith("#")]


_SHORT_HELP = ("--helpshort", "-helpshort")
_HELP = {"--help", "-help", "--helpfull", "-helpfull", "-h", "-?", *_SHORT_HELP}


def help_text(cls: type[Options], description: str, *, only_main: bool = False) -> str:
    """Text of `--help`: the command's description, then the flags that it uses, by group.

    Args:
        cls: class of the command's options.
        description: docstring of the command's module.
        only_main: whether only the main flags are listed, as `--helpshort` does: the command's own,
            and those marked in the groups that it shares with others.
    """
    parts = [inspect.cleandoc(description)]
    listed = [field for field in option_fields(cls) if not field.metadata["unused"]]
    shown: set[str] = set()
    for group in cls.__mro__:
        if not issubclass(group, Options) or group is Options:
            continue
        names = [name for name in vars(group).get("__annotations__", {}) if name not in shown]
        fields = [cls.__dataclass_fields__[name] for name in names]
        fields = [field for field in fields if field in listed]
        shown.update(names)
        if only_main and group is not cls:
            fields = [field for field in fields if field.metadata["is_main"]]
        if fields:
            title = inspect.cleandoc(group.__doc__ or group.__name__).splitlines()[0]
            parts.append("\n".join([title, *(_flag_text(cls, field) for field in fields)]))
    parts.append(
        "--flagfile=FILE reads flags from a file, or from a preset by name; later flags override "
        "earlier ones."
    )
    if only_main:
        parts.append(f"These are the main flags; --help lists all {len(listed)}.")
    return "\n\n".join(parts)


def _flag_text(cls: type[Options], field) -> str:
    kind, data = value_type(field), field.metadata
    name = f"--[no]{field.name}" if kind is bool else f"--{field.name}"
    if data["choices"]:
        name += f" <{'|'.join(data['choices'])}>"
    text = data["description"]
    if field.default not in (None, (), ""):
        shown = ",".join(field.default) if kind is tuple else field.default
        shown = str(shown).lower() if kind is bool else shown
        text += f" (default: {shown})"
    elif data["is_required"]:
        text += " (required)"
    body = textwrap.fill(text, 96, initial_indent="    ", subsequent_indent="    ")
    return f"  {name}\n{body}"


def exit_after_help(argv: Sequence[str], cls: type[Options], description: str) -> None:
    """Prints the help and ends the process, where the command line asks for it."""
    before_rest = argv[: argv.index("--")] if "--" in argv else argv
    asked = _HELP.intersection(before_rest)
    if asked:
        print(help_text(cls, description, only_main=asked <= set(_SHORT_HELP)))
        sys.exit(0)
