"""Options as frozen dataclasses: each field is a flag of a command and an argument in Python."""

import dataclasses
import difflib
import math
import operator
import os
import re
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

from pixpro_keras.utils.errors import UserError

OptionsT = TypeVar("OptionsT", bound="Options")

# Bound of an option -> comparison of an allowed value with it, and its words in an error.
_BOUNDS: dict[str, tuple[Callable[[Any, float], bool], str]] = {
    "above": (operator.gt, "above"),
    "minimum": (operator.ge, "at least"),
    "maximum": (operator.le, "at most"),
    "below": (operator.lt, "below"),
}


class FlagError(UserError, ValueError):
    """A flag whose value cannot be used; the message names both."""


def option(
    default: Any,
    description: str,
    *,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    check: Callable[[Any], bool] | None = None,
    must: str = "",
    is_required: bool = False,
    is_repeated: bool = False,
    is_main: bool = False,
    unused: str = "",
) -> Any:
    """Field of an `Options` class.

    Args:
        default: value where none is given; None is allowed for `T | None` fields.
        description: text of `--help`, with the unit.
        choices: allowed values.
        minimum: lowest allowed number.
        maximum: highest allowed number.
        above: number below all allowed ones.
        below: number above all allowed ones.
        check: function of a value that returns True if it is allowed.
        must: rest of the error "must ..." where `check` fails.
        is_required: whether a value must be given.
        is_repeated: whether the flag of a tuple is given once for each item, instead of once with commas.
        is_main: whether `--helpshort` shows it in every command that has it.
        unused: reason why a command does not use an option of its groups, which flag files may have. It is
            not in `--help`, and `refuse_unused` refuses it.

    Returns:
        The field.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "description": description,
            "choices": tuple(choices),
            "minimum": minimum,
            "maximum": maximum,
            "above": above,
            "below": below,
            "check": check,
            "must": must,
            "is_required": is_required,
            "is_repeated": is_repeated,
            "is_main": is_main,
            "unused": unused,
        },
    )


def with_default(group: type["Options"], name: str, default: Any, **changes: Any) -> Any:
    """Field of a group with another default, and other metadata where `changes` name them."""
    field = group.__dataclass_fields__[name]
    return dataclasses.field(default=default, metadata={**field.metadata, **changes})


def without_effect(group: type["Options"], name: str, reason: str) -> Any:
    """Field of a group that a command does not use; see `unused` of `option`."""
    return with_default(group, name, group.__dataclass_fields__[name].default, unused=reason)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Base of all groups of options. Values are checked when an object is made.

    Attributes:
        given: names of the options that a user gave, in a flag file or else; the others have defaults.
        from_files: names of those that were given in flag files only.

    Raises:
        FlagError: if a value is of the wrong type or out of its range, naming the option.
    """

    given: frozenset[str] = frozenset()
    from_files: frozenset[str] = frozenset()

    def __post_init__(self):
        """Converts values to the types of their fields and checks them."""
        for field in option_fields(type(self)):
            value = _convert(field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            _check(field, value)

    def is_given(self, name: str) -> bool:
        """Returns True if the user gave an option."""
        return name in self.given

    @property
    def on_command_line(self) -> frozenset[str]:
        """Names of the options that were given on the command line or in Python, not in a file."""
        return self.given - self.from_files

    def replace(self, **values: Any) -> Self:
        """A copy with other values."""
        return dataclasses.replace(self, **values)

    @classmethod
    def make(cls, base: Self | None = None, **values: Any) -> Self:
        """Options from Python arguments.

        Args:
            base: options that the values override, as of a preset.
            **values: values by name.

        Raises:
            TypeError: if there is no such option; the message has the closest name.
            FlagError: if a value cannot be used or a required one is missing.
        """
        names = [field.name for field in option_fields(cls)]
        for name in values:
            if name not in names:
                close = closest(name, names)
                hint = f" Did you mean `{close}`?" if close else ""
                raise TypeError(f"there is no option `{name}`.{hint}")
        base = cls() if base is None else base
        names_given = base.given | set(values)
        from_files = base.from_files - set(values)
        return base.replace(**values, given=names_given, from_files=from_files).check_required()

    def check_required(self) -> Self:
        """Returns the options, after checking that all required ones have values.

        Raises:
            FlagError: naming those that have none.
        """
        names = [
            f"--{field.name}"
            for field in option_fields(type(self))
            if field.metadata["is_required"] and getattr(self, field.name) is None
        ]
        if names:
            raise FlagError(f"{' and '.join(names)}: must be given")
        return self


def are_positive(values: Sequence[str]) -> bool:
    """Returns True if all values are positive, finite numbers."""
    try:
        return all(0 < float(value) < math.inf for value in values)
    except ValueError:
        return False


def is_image_shape(values: Sequence[str]) -> bool:
    """Returns True for height and width in pixels."""
    return len(values) == 2 and all(value.isdecimal() and int(value) for value in values)


def closest(name: str, names: Sequence[str]) -> str | None:
    """Known name that is most similar to an unknown one; None if none is similar."""
    name = name.replace("-", "_").lower()
    close = difflib.get_close_matches(name, names, 1)
    within = [one for one in names if len(name) > 2 and name in one.split("_")]
    return next(iter([*close, *within]), None)


def option_fields(cls: type[Options]) -> list[dataclasses.Field]:
    """The fields of a class that are options, in the order of the groups."""
    return [field for field in dataclasses.fields(cls) if "description" in field.metadata]


def value_type(field: dataclasses.Field) -> Any:
    """Type of a field's values besides None: bool, int, float, str or tuple."""
    kind = field.type
    if isinstance(kind, types.UnionType):
        (kind,) = (one for one in typing.get_args(kind) if one is not type(None))
    return typing.get_origin(kind) or kind


def _convert(field: dataclasses.Field, value: Any) -> Any:
    kind = value_type(field)
    if value is None:
        if type(None) not in typing.get_args(field.type) and not field.metadata["is_required"]:
            raise FlagError(f"--{field.name}: must not be None")
        return None
    if kind is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise FlagError(f"--{field.name}={value!r}: must be a list")
        return tuple(str(item) for item in value)
    if kind is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if kind is str and field.metadata["choices"] and isinstance(value, int):
        return str(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**53 else value
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise FlagError(f"--{field.name}={value!r}: must be of type {kind.__name__}")
    if kind is float and not math.isfinite(value):
        raise FlagError(f"--{field.name}={value}: must be a finite number")
    # Surrogates, of a path that is not UTF-8, cannot be written to `flags.cfg`.
    if kind is str and re.search("[\ud800-\udfff]", value):
        raise FlagError(
            f"--{field.name}={value!r}: must be UTF-8; a link can give a path another name"
        )
    return value


def _check(field: dataclasses.Field, value: Any) -> None:
    if value is None:
        return
    data = field.metadata
    shown = f"--{field.name}={','.join(value) if isinstance(value, tuple) else value}"
    if data["choices"] and not isinstance(value, tuple) and value not in data["choices"]:
        raise FlagError(f"{shown}: must be one of {', '.join(data['choices'])}")
    for name, (is_within, words) in _BOUNDS.items():
        bound = data[name]
        if bound is not None and not is_within(value, bound):
            limit = "positive" if (name, bound) == ("above", 0) else f"{words} {bound:g}"
            raise FlagError(f"{shown}: must be {limit}")
    if data["check"] is not None and not data["check"](value):
        raise FlagError(f"{shown}: must {data['must']}")
