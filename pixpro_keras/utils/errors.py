"""Errors that a user can fix, shown as one line instead of a traceback."""

import re

# In TensorFlow's messages: `{{node Cast}}`, `[Op:Cast] name: `.
_OPERATIONS = re.compile(r"\{\{.*?\}\} ?| ?\[Op:\w+\].*")


class UserError(Exception):
    """Base of the errors about a user's files, folders, images, machines and settings."""


def first_line(error: BaseException) -> str:
    r"""First nonempty line of an error's message; the name of its class if there is none.

    The names of operations in TensorFlow's messages are left out.

    Args:
        error: an error, such as one of TensorFlow, whose messages run over many lines.

    Example:
        ```python
        from pixpro_keras.utils import first_line

        assert first_line(OSError("\nno such file\nTraceback: ...")) == "no such file"
        assert first_line(OSError()) == "OSError"
        ```
    """
    lines = (_OPERATIONS.sub("", line).strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
