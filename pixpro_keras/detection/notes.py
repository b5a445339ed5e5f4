"""Notes on a data set: counts of what is left out or changed."""

from collections.abc import Mapping

from absl import logging


class Notes:
    """Counts of content of a data set that is left out or changed when it is read.

    Example:
        ```python
        from pixpro_keras.detection.notes import Notes

        notes = Notes()
        notes.add("annotations of unknown images, left out", "annotation 7")
        notes.add("annotations of unknown images, left out", "annotation 9")
        assert str(notes) == "annotations of unknown images, left out: 2 (annotation 7, ...)"
        assert notes.counts == {"annotations of unknown images, left out": 2}
        ```
    """

    def __init__(self):
        self._first: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._expected: set[str] = set()

    def add(self, kind: str, case: str, number: int = 1, *, is_expected: bool = False) -> None:
        """Counts cases of a kind.

        Args:
            kind: the cases in general, and what is done with them.
            case: name of the first of these cases.
            number: number of these cases.
            is_expected: whether data sets without faults have such cases too.
        """
        self._first.setdefault(kind, case)
        self._counts[kind] = self._counts.get(kind, 0) + number
        if is_expected:
            self._expected.add(kind)

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of cases by kind."""
        return dict(self._counts)

    def copy(self) -> "Notes":
        """Copies the counts, so that more can be added."""
        copy = Notes()
        copy._first, copy._counts = dict(self._first), dict(self._counts)
        copy._expected = set(self._expected)
        return copy

    def log(self, name: str) -> None:
        """Logs all counts in one line, if there are any.

        Args:
            name: name of the data set.
        """
        if self._counts:
            level = logging.INFO if self._counts.keys() <= self._expected else logging.WARNING
            logging.log(level, "%s: %s", name, self)

    def __str__(self) -> str:
        parts = []
        for kind, count in self._counts.items():
            more = ", ..." if count > 1 else ""
            parts.append(f"{kind}: {count} ({self._first[kind]}{more})")
        return "; ".join(parts)
