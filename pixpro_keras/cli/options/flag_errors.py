"""Errors about flags: of values that cannot be used, and of flags without effect."""

import contextlib
from collections.abc import Iterator, Mapping

from absl import logging

from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.option_fields import FlagError, Options, option_fields
from pixpro_keras.utils.errors import UserError


def refuse_unused(
    options: Options, unused: Mapping[str, str] | None = None, *, with_defaults: bool = False
) -> None:
    """Refuses given options that have no effect. For those from a flag file the log has a warning.

    Several commands may share a flag file, and `flags.cfg` lists all options.

    Args:
        options: options of the command.
        unused: option -> the reason; those that the command never uses need not be in it.
        with_defaults: whether an option on the command line is refused even if its value is the default.

    Raises:
        FlagError: naming the flag and the reason.
    """
    for field in option_fields(type(options)):
        name = field.name
        reason = (unused or {}).get(name) or field.metadata["unused"]
        if not reason or not options.is_given(name):
            continue
        is_of_file = name in options.from_files
        if getattr(options, name) == field.default and (is_of_file or not with_defaults):
            continue
        message = f"{' '.join(parsing.serialize(options, name))}: {reason}"
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
