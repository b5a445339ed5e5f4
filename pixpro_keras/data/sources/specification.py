"""Specifications of data sets, `kind:rest`, and the openers of their kinds."""

import os
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Generic, TypeVar

Opened = TypeVar("Opened")


def path_hint(specification: str, kinds: Collection[str]) -> str:
    """Hint for an error if a path was given instead of `kind:path`; else an empty text.

    Args:
        specification: specification that the user gave.
        kinds: kinds to suggest; a folder may be `folder`, `voc`, `coco` or `cityscapes`.

    Example:
        ```python
        import tempfile

        from pixpro_keras.data.sources.specification import path_hint

        folder = tempfile.mkdtemp()
        assert path_hint(folder, ["folder"]).endswith(f"did you mean folder:{folder}?")
        ```
    """
    path = os.path.expanduser(specification)
    if os.path.isdir(path):
        meant = [kind for kind in ("folder", "voc", "coco", "cityscapes") if kind in kinds]
    else:
        meant = ["tfrecord"] if os.path.isfile(path) and "tfrecord" in kinds else []
    if not meant:
        return ""
    return f"; did you mean {' or '.join(f'{kind}:{specification}' for kind in meant)}?"


class Openers(Generic[Opened]):
    """Openers of data sets by kind, the first word of a specification.

    An opener is called with the whole specification, with what follows its kind and a colon, and with the
    arguments of `open`.

    Args:
        openers: usage -> opener. Errors show the usages: the kind, then `:` if something must
            follow it (`folder:PATH`), `[:` if something may (`scenes[:SPLIT]`), or nothing
            (`scenes`).
        note: addition to the list of usages in errors.

    Example:
        ```python
        from pixpro_keras.data.sources import Openers

        openers = Openers({"folder:PATH": lambda specification, path: path.split("/")})
        assert openers.open("folder:photos/2024") == ["photos", "2024"]
        ```
    """

    def __init__(self, openers: Mapping[str, Callable[..., Opened]], note: str = ""):
        *others, last = openers
        self._usage = f"{', '.join(others)} or {last}{note}" if others else f"{last}{note}"
        self._openers: dict[str, Callable[..., Opened]] = {}
        self._rests: dict[str, str] = {}
        for usage, opener in openers.items():
            kind = re.split(r"\W", usage, maxsplit=1)[0]
            self._openers[kind] = opener
            self._rests[kind] = usage[len(kind) : len(kind) + 1]
        ends = {":": ":", "[": r"(?:[:+]|$)", "": r"(?:\+|$)"}
        begins = "|".join(f"{kind}{ends[rest]}" for kind, rest in self._rests.items())
        # A plus sign separates specifications only before the start of the next one.
        self._between = re.compile(rf"\+(?={begins})")

    def split(self, specification: str) -> list[str]:
        """Splits a specification of several data sets, with `+` between them, into theirs."""
        return self._between.split(specification)

    def parse(self, specification: str) -> tuple[str, str]:
        """Splits a specification of one data set into its kind and the rest.

        Raises:
            ValueError: if its kind is unknown; the message lists the usages.
        """
        specification = os.fspath(specification)  # The error proposes a kind for a path object.
        kind, _, rest = specification.partition(":")
        expected = self._rests.get(kind)
        if expected is None or (expected == ":" and not rest) or (expected == "" and rest):
            hint = path_hint(specification, self._rests)
            raise ValueError(
                f"the data set must be {self._usage}. Received: {specification!r}{hint}"
            )
        return kind, rest

    def open(self, specification: str, *arguments: Any) -> Opened:
        """Opens a data set.

        Args:
            specification: the data set, `kind:rest`.
            *arguments: further arguments of the opener.

        Raises:
            ValueError: if its kind is unknown; the message lists the usages. Or from the opener.
        """
        kind, rest = self.parse(specification)
        return self._openers[kind](specification, rest, *arguments)
