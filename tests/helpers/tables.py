"""Markdown tables as the tests compare them."""

import re


def unpadded(text: str) -> str:
    """Collapses spaces, so that a row of a table does not depend on the width of the others."""
    return re.sub(" +", " ", text)
