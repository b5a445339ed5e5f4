"""Names that look alike but differ in their characters, such as in Unicode's forms NFC and NFD."""

import unicodedata
from collections.abc import Collection, Iterable

from absl import logging


def only_in(names: Collection[str], others: Collection[str]) -> str:
    r"""Lists the names that are not among others, for an error; `none` if there are none.

    A name that looks like one of the others is shown with its characters, too.

    Args:
        names: the names.
        others: the names that they are compared with.

    Example:
        ```python
        from pixpro_keras.data.lookalikes import only_in

        assert only_in(["cat", "dog"], ["dog", "Cat"]) == "cat"
        assert only_in(["cafe\u0301"], ["caf\xe9"]).endswith(r" (NFD, 'cafe\u0301')")
        ```
    """
    here, there = set(names), set(others)
    looks = {_look(other) for other in there - here}
    only = (name for name in names if name not in there)
    return ", ".join(spelled(x) if _look(x) in looks else x for x in only) or "none"


def spelled(name: str) -> str:
    r"""Name with its characters, and with Unicode's form where it has one of its own.

    Args:
        name: the name.

    Example:
        ```python
        from pixpro_keras.data.lookalikes import spelled

        assert spelled("a\u200b").endswith(r" ('a\u200b')")
        ```
    """
    forms = [form for form in ("NFC", "NFD") if unicodedata.is_normalized(form, name)]
    return f"{name} ({forms[0]}, {name!a})" if len(forms) == 1 else f"{name} ({name!a})"


def lookalike(name: str, others: Iterable[str]) -> str | None:
    r"""Another name that looks like a name; None if there is none.

    Args:
        name: the name.
        others: names that may look like it.

    Example:
        ```python
        from pixpro_keras.data.lookalikes import lookalike

        assert lookalike("caf\xe9", ["cat", "cafe\u0301"]) == "cafe\u0301"
        ```
    """
    look = _look(name)
    return next((other for other in others if other != name and _look(other) == look), None)


def warn_of_lookalikes(names: Iterable[str]) -> None:
    r"""Warns of class names that look alike.

    Args:
        names: different names.

    Example:
        ```python
        from pixpro_keras.data.lookalikes import warn_of_lookalikes

        warn_of_lookalikes(["cafe\u0301", "caf\xe9"])  # logs: the classes caf\xe9 (NFD, ...
        ```
    """
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(_look(name), name)
        if other != name:
            logging.warning(
                "the classes %s and %s look alike, but are two, since their names have other characters",
                spelled(other),
                spelled(name),
            )


def _look(name: str) -> str:
    """Form of a name that is the same for all names that look like it."""
    plain = unicodedata.normalize("NFKC", name)
    return "".join(character for character in plain if character.isprintable()).strip()
