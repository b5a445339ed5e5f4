"""Errors that a user can mend, and the text of errors that other packages raise."""


class UserError(Exception):
    """Base of the errors about a user's files, folders, images, machines and settings.

    Commands print them in one line, without a traceback.
    """


def first_line(error: BaseException) -> str:
    r"""First line of an error's text; the name of its class where it has none.

    Example:
        ```python
        from pixpro_keras.utils.errors import first_line

        assert first_line(ValueError("no such file\nin this folder")) == "no such file"
        assert first_line(KeyError()) == "KeyError"
        ```
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
