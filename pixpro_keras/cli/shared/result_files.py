"""Results of an evaluation: printed, and as files."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pixpro_keras.utils.files import write_atomically
from pixpro_keras.utils.markdown import markdown_table

_MOST_COLUMNS = 100  # of a terminal
# Files of every training, in the folder {workdir}.
TRAINING_FILES = {
    "checkpoints/": "the last steps, from which the same command continues",
    "metrics.jsonl": "all scalars, also for TensorBoard: tensorboard --logdir {workdir}",
    "flags.cfg": "all flags, to repeat the run with another --workdir",
}


def write_results(
    workdir: pathlib.Path,
    job: str,
    results: dict,
    files: Mapping[str, str] = MappingProxyType({}),
    **tables: Sequence[Mapping],
) -> None:
    """Prints results and the job's files; writes the results as `JOB.json` and `JOB.md`.

    Args:
        workdir: folder of the files.
        job: name of the files.
        results: column -> text, count or share; shares are shown in percent.
        files: name of each other file that the job wrote -> its use.
        **tables: more rows, under their table's name.
    """
    parts = [results_table([results])]
    parts += [
        f"{name.replace('_', ' ')}:\n\n{results_table(rows)}"
        for name, rows in tables.items()
        if rows
    ]
    write_table(workdir, job, "\n".join(parts), results | tables, files)


def write_table(
    workdir: pathlib.Path, name: str, text: str, content: object, files: Mapping[str, str]
) -> None:
    """Prints a text and the files; writes the text as `NAME.md` and its content as `NAME.json`.

    Args:
        workdir: folder of the files.
        name: name of both files.
        text: Markdown.
        content: the same as JSON values.
        files: name of each other file that was written -> its use.
    """
    write_atomically(workdir / f"{name}.json", json.dumps(content, indent=2).encode())
    write_atomically(workdir / f"{name}.md", text.encode())
    print(f"\n{text}\nIn {workdir}:")
    written = {f"{name}.md": "the table", f"{name}.json": "the same, for programs"}
    print_files(workdir, written | dict(files))


def print_files(workdir: pathlib.Path, files: Mapping[str, str]) -> None:
    """Prints names of files and their uses, in which `{workdir}` stands for their folder."""
    for file, use in files.items():
        print(f"  {file:28} {use.replace('{workdir}', str(workdir))}")


def results_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Formats results as a Markdown table: a row for each, or a column if it would be too wide.

    Args:
        rows: column -> text, count or share; "-" stands for what a row does not have.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([shown(row.get(name)) for name in names] for row in rows)]
    table = markdown_table(lines[0], lines[1:])
    if len(table.partition("\n")[0]) > _MOST_COLUMNS:
        head, *measures = zip(*lines, strict=True)
        table = markdown_table(head, measures)
    return table + "\n"


def shown(value: object) -> str:
    """Text of a value in a table: shares in percent, "-" where there is none."""
    if value is None:
        return "-"
    return f"{value:.1%}" if isinstance(value, float) else str(value)
