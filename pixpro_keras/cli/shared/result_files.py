"""Results of an evaluation: printed, and as files."""

import json
import pathlib
from collections.abc import Mapping, Sequence

from pixpro_keras.utils.files import write_atomically
from pixpro_keras.utils.markdown import markdown_table


def write_results(
    workdir: pathlib.Path, job: str, results: dict, **tables: Sequence[Mapping]
) -> None:
    """Prints results and writes them as `JOB.json` and `JOB.md`.

    Args:
        workdir: folder of the files.
        job: name of the files.
        results: column -> text, count or share; shares are shown in percent.
        **tables: more rows, under their table's name.
    """
    parts = [_table([results])]
    parts += [
        f"{name.replace('_', ' ')}:\n\n{_table(rows)}" for name, rows in tables.items() if rows
    ]
    text = "\n".join(parts)
    stored = json.dumps(results | tables, indent=2)
    write_atomically(workdir / f"{job}.json", stored.encode())
    write_atomically(workdir / f"{job}.md", text.encode())
    print(f"\n{text}\nIn {workdir}: {job}.md, {job}.json")


def _table(rows: Sequence[Mapping]) -> str:
    return markdown_table(list(rows[0]), [map(_shown, row.values()) for row in rows]) + "\n"


def _shown(value) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if isinstance(value, float) else str(value)
