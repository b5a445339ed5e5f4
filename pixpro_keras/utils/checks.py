"""Checks of arguments, with one wording for all of them."""

from collections.abc import Callable, Collection
from typing import TypeVar

__all__ = ["at_least", "in_range", "one_of", "positive"]

Number = TypeVar("Number", bound=float)


def positive(name: str, value: Number) -> Number:
    """Returns the value, which must be above 0.

    Args:
        name: name of the argument, for the error.
        value: value of the argument.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is 0 or less.

    Example:
        ```python
        from pixpro_keras.utils import checks

        gamma = checks.positive("gamma", 2.0)
        ```
    """
    if not _holds(name, value, lambda: value > 0):
        raise ValueError(f"`{name}` must be positive. Received: {name}={value}.")
    return value


def at_least(name: str, value: Number, low: float) -> Number:
    """Returns the value, which must be `low` or more.

    Args:
        name: name of the argument, for the error.
        value: value of the argument.
        low: smallest value.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is less.

    Example:
        ```python
        from pixpro_keras.utils import checks

        num_layers = checks.at_least("num_layers", 2, 1)
        ```
    """
    if not _holds(name, value, lambda: value >= low):
        raise ValueError(f"`{name}` must be at least {low}. Received: {name}={value}.")
    return value


def in_range(name: str, value: Number, low: float, high: float) -> Number:
    """Returns the value, which must be in `[low, high]`.

    Args:
        name: name of the argument, for the error.
        value: value of the argument.
        low: smallest value.
        high: largest value.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is outside.

    Example:
        ```python
        from pixpro_keras.utils import checks

        momentum = checks.in_range("momentum", 0.99, 0, 1)
        ```
    """
    if not _holds(name, value, lambda: low <= value <= high):
        raise ValueError(f"`{name}` must be in [{low}, {high}]. Received: {name}={value}.")
    return value


def _holds(name: str, value: object, compare: Callable[[], bool]) -> bool:
    try:
        return bool(compare())
    except TypeError as error:
        raise TypeError(f"`{name}` must be a number. Received: {name}={value!r}.") from error


def one_of(name: str, value: str, choices: Collection[str]) -> str:
    """Returns the value, which must be one of the choices.

    Args:
        name: name of the argument, for the error.
        value: value of the argument.
        choices: values that are allowed.

    Raises:
        ValueError: if it is none of them.

    Example:
        ```python
        from pixpro_keras.utils import checks

        activation = checks.one_of("activation", "relu", ("relu", "gelu"))
        ```
    """
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(choices)}. Received: {name}={value!r}."
        )
    return value
