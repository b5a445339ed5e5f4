"""Errors that a user can fix, shown as one line instead of a traceback."""


class UserError(Exception):
    """Base of the errors about a user's files, folders, images, machines and settings."""


def first_line(error: BaseException) -> str:
    r"""First nonempty line of an error's message; the name of its class if there is none.

    Args:
        error: an error, such as one of TensorFlow, whose messages run over many lines.

    Example:
        ```python
        from pixpro_keras.utils import first_line

        assert first_line(OSError("\nno such file\nTraceback: ...")) == "no such file"
        assert first_line(OSError()) == "OSError"
        ```
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
