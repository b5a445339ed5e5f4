"""Definition of a table of the paper: rows are pre-trainings, columns are transfers."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """A pre-training, at every scale. Its folder holds its runs and their transfers.

    Attributes:
        name: name of its folder, and in `--rows`.
        preset: name in `configs/pretrain` of the paper's recipe; None if the paper has none.
        flags: flags that differ from the other rows at the scales small and tiny, with spaces between; None
            if these scales do not have the row.
        note: caveat for readers of a small table.
    """

    name: str
    preset: str | None
    flags: str | None = ""
    note: str = ""

    @property
    def is_none(self) -> bool:
        """True for random weights."""
        return self.preset is None and not self.flags


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: its name in the paper.
        pretraining: name in `PRETRAININGS`, and of the row.
        paper: numbers of each of the table's transfers in the paper, in percent, in the order of
            `Transfer.numbers`. Empty for a row of ours, which the paper's scale does not have.
        instead: transfer -> the pre-training that the paper uses for it instead, at its scale.
    """

    label: str
    pretraining: str
    paper: tuple[tuple[float, ...], ...] = ()
    instead: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Transfer job and its reported numbers, of which the first is plotted.

    Attributes:
        name: name of its folder, and in `--columns`.
        label: name of the column.
        script: name of the script in `experiments`, without its ending. It writes `SCRIPT.json`.
        flags: flags of the job, with spaces between; `{data}` stands for `--data`.
        numbers: names of the reported values in its result.
        stands_for: transfer of the paper whose numbers stand beside these; empty: none.
    """

    name: str
    label: str
    script: str
    flags: str
    numbers: tuple[str, ...]
    stands_for: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        number: its number.
        title: subject of the comparison.
        transfers: names of those that the paper has in it.
        rows: rows in the paper's order, then ours.
    """

    number: int
    title: str
    transfers: tuple[str, ...]
    rows: tuple[Row, ...]

    def rows_at(self, scale: "Scale") -> tuple[Row, ...]:
        """Rows that a scale has."""
        return tuple(row for row in self.rows if row.paper or not scale.is_paper)

    def paper_numbers(self, row: Row, transfer: str) -> tuple[float, ...]:
        """Numbers of a cell in the paper; empty if it does not have the cell."""
        return dict(zip(self.transfers, row.paper, strict=False)).get(transfer, ())


@dataclasses.dataclass(frozen=True)
class Scale:
    """Size of all jobs of a table.

    Attributes:
        name: value of `--scale`.
        what: description, shown above a table.
        pretrain: flags of each pre-training, before its own; None where each has the paper's preset.
        transfers: columns of its tables; at the paper's scale, those of all tables.
        scratch: flags of a transfer without pre-training.
        labeled: data set of supervised pre-training, if its preset does not name one.
        data_flags: flags of all jobs if `--data` is given.
    """

    name: str
    what: str
    pretrain: str | None
    transfers: tuple[Transfer, ...]
    scratch: str
    labeled: str = ""
    data_flags: str = ""

    def transfer(self, name: str) -> Transfer:
        """Transfer of a name."""
        return next(one for one in self.transfers if one.name == name)

    @property
    def is_paper(self) -> bool:
        """True for the paper's own scale."""
        return self.pretrain is None
