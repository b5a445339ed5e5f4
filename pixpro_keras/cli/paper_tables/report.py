"""Report of a table: Markdown, JSON and a picture."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pixpro_keras.utils.files import write_atomically
from pixpro_keras.utils.markdown import markdown_table
from pixpro_keras.visualize.figures import save_figure
from pixpro_keras.visualize.result_chart import Panel, draw_results

_NOT_RUN = "not run"


def write_report(workdir: pathlib.Path, found: Mapping[str, Any], command: str) -> pathlib.Path:
    """Writes `tableN.md`, `tableN.json` and `tableN.png`.

    Args:
        workdir: folder of the files; links are relative to it.
        found: result of `results.gather`.
        command: command line that made it.

    Returns:
        Path of the Markdown file.
    """
    name = f"table{found['table']}"
    stored = json.dumps({**found, "command": command}, indent=2)
    write_atomically(workdir / f"{name}.json", stored.encode())
    figure = draw_results([row["label"] for row in found["rows"]], _panels(found))
    save_figure(figure, workdir / f"{name}.png")
    file = workdir / f"{name}.md"
    write_atomically(file, markdown(found, command, f"{name}.png").encode())
    return file


def markdown(found: Mapping[str, Any], command: str, picture: str) -> str:
    """Text of `tableN.md`."""
    rows = found["rows"]
    firsts = [(column, column["numbers"][0]) for column in found["columns"]]
    parts = [
        f"# Table {found['table']}, {found['scale']}: {found['title']}",
        found["what"],
        "All numbers in percent. Ours: mean over seeds (lowest to highest).",
        _numbers(
            [row["label"] + "\\*" * bool(row["notes"]) for row in rows],
            rows,
            [(column, first, f"{column['label']} {first}") for column, first in firsts],
        ),
        _notes(found),
        f"![The paper's numbers and ours]({picture})",
    ]
    for column in found["columns"]:
        ran = [row for row in rows if _has_results(row["cells"][column["name"]])]
        if ran and len(column["numbers"]) > 1:
            columns = [(column, name, name) for name in column["numbers"]]
            table = _numbers([row["label"] for row in ran], ran, columns)
            parts += [f"## {column['label']}", table]
    parts += ["## Runs", _runs(found["runs"]), f"Made by\n\n    {command}\n"]
    return "\n\n".join(part for part in parts if part)


def _numbers(
    labels: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[tuple[Mapping[str, Any], str, str]],
) -> str:
    """Table of the paper's numbers and ours.

    Args:
        labels: labels of the rows.
        rows: rows of the result.
        columns: column of the result, name of its number, and heading of ours.
    """
    head, lines = ["pre-training"], [[label] for label in labels]
    for column, name, heading in columns:
        numbers = [row["cells"][column["name"]][name] for row in rows]
        has_paper = any(number["paper"] is not None for number in numbers)
        head += [f"paper: {column['paper']} {name}"] * has_paper + [f"ours: {heading}"]
        for line, number in zip(lines, numbers, strict=True):
            line += [_one(number["paper"])] * has_paper + [_ours(number)]
    return markdown_table(head, lines)


def _notes(found: Mapping[str, Any]) -> str:
    lines = [
        f"\\* {row['label']}: {'; '.join(row['notes'])}." for row in found["rows"] if row["notes"]
    ]
    if found["scale"] != "paper":
        lines.append("Epochs in the names of rows are the paper's.")
    if found["not_here"]:
        lines.append(
            f"This scale has no counterpart of the paper's {', '.join(found['not_here'])}."
        )
    return "\n".join(f"- {line}" for line in lines)


def _has_results(cell: Mapping[str, Any]) -> bool:
    return any(number["mean"] is not None for number in cell.values())


def _runs(runs: Sequence[Mapping[str, Any]]) -> str:
    if not runs:
        return "None yet."
    head = ["run", "state", "time", "images/s in training", "commit", "files"]
    lines = [
        [
            run["job"],
            run["state"],
            "-" if run["seconds"] is None else f"{run['seconds']:.0f} s",
            _one(run["images_per_second"]),
            run["commit"] or "-",
            " ".join(f"[{name}]({path})" for name, path in run["files"].items()) or "-",
        ]
        for run in runs
    ]
    total = sum(run["seconds"] or 0 for run in runs)
    text = f"{markdown_table(head, lines)}\n\n{total / 3600:.1f} hours in all."
    if any(run["commit"].endswith("+") for run in runs):
        text += " A + after a commit: with changes of its files."
    return text


def _panels(found: Mapping[str, Any]) -> list[Panel]:
    panels = []
    for column in found["columns"]:
        name = column["numbers"][0]
        cells = [row["cells"][column["name"]][name] for row in found["rows"]]
        panels.append(
            Panel(
                f"{column['label']} {name}",
                [list(cell["seeds"].values()) for cell in cells],
                f"{column['paper']} {name}" if column["paper"] is not None else None,
                [cell["paper"] for cell in cells],
            )
        )
    return panels


def _one(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _ours(number: Mapping[str, Any]) -> str:
    if number["mean"] is None:
        return _NOT_RUN
    if len(number["seeds"]) == 1:
        return f"{number['mean']:.1f}"
    return f"{number['mean']:.1f} ({number['lowest']:.1f} to {number['highest']:.1f})"
