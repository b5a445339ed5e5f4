"""Checks of arguments that many signatures share."""


def positive(name: str, value: float) -> float:
    """The value, if it is positive.

    Raises:
        ValueError: naming the argument and the value, if not.
    """
    if value <= 0:
        raise ValueError(f"`{name}` must be positive. Received: {name}={value}.")
    return value
