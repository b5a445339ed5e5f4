"""Errors that a user can mend, and therefore reads as one line instead of a traceback."""


class UserError(Exception):
    """Base of the errors about a user's files, folders, images, machines and settings."""
