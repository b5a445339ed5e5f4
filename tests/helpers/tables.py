"""Markdown tables as the tests compare them."""

import re


def unpadded(text: str) -> str:
    """Returns a text with each run of spaces as one, so that rows of tables do not depend on the others."""
    return re.sub(" +", " ", text)
