"""Collection of the results of a table's jobs."""

import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pixpro_keras.cli.paper_tables.definition import Row, Table, Transfer
from pixpro_keras.cli.paper_tables.job_records import (
    LOG,
    differences,
    images_per_second,
    is_finished,
    read_record,
)
from pixpro_keras.cli.paper_tables.jobs import Job, Places, Planner, columns_of
from pixpro_keras.cli.paper_tables.pretrainings import PRETRAININGS
from pixpro_keras.cli.paper_tables.scales import PAPER


def summarize(values: Mapping[int, float]) -> dict[str, Any]:
    """Mean and range over seeds, of shares in percent.

    Args:
        values: seed -> share in [0, 1].
    """
    percent = {seed: 100 * value for seed, value in sorted(values.items())}
    if not percent:
        return {"seeds": {}, "mean": None, "lowest": None, "highest": None}
    every = list(percent.values())
    return {
        "seeds": percent,
        "mean": sum(every) / len(every),
        "lowest": min(every),
        "highest": max(every),
    }


def gather(table: Table, planner: Planner, places: Places, seeds: Iterable[int]) -> dict[str, Any]:
    """Collects the numbers and the state of all jobs of a table.

    Results with other flags than the planner's are left out.

    Args:
        table: table of the paper.
        planner: planner of the scale.
        places: folders of this machine.
        seeds: requested seeds; others with results are added.
    """
    seeds = sorted({*seeds, *_seeds_found(places.workdir)})
    transfers = columns_of(table, planner.scale)
    runs: dict[str, dict[str, Any]] = {}
    rows = [
        {
            "name": row.pretraining,
            "label": row.label,
            "notes": _notes(row, planner),
            "cells": {
                transfer.name: _cell(table, row, transfer, planner, places, seeds, runs)
                for transfer in transfers
            },
        }
        for row in table.rows_at(planner.scale)
    ]
    columns = [
        {
            "name": transfer.name,
            "label": transfer.label,
            "numbers": list(transfer.numbers),
            "paper": _paper_label(table, transfer),
        }
        for transfer in transfers
    ]
    return {
        "table": table.number,
        "title": table.title,
        "scale": planner.scale.name,
        "what": planner.scale.what,
        "columns": columns,
        "not_here": [
            PAPER.transfer(name).label
            for name in table.transfers
            if name not in {transfer.stands_for for transfer in transfers}
        ],
        "rows": rows,
        "runs": [run for run in runs.values() if run["state"] != "not run"],
    }


def _cell(
    table: Table,
    row: Row,
    transfer: Transfer,
    planner: Planner,
    places: Places,
    seeds: Iterable[int],
    runs: dict[str, dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Numbers of a cell by name, the paper's and ours. Adds the state of its jobs to `runs`."""
    found: dict[str, dict[int, float]] = {name: {} for name in transfer.numbers}
    for seed in seeds:
        job = planner.transfer(row, transfer, seed)
        if job is None:
            continue
        for one in (job.after, job):
            if one is not None and one.name not in runs:
                runs[one.name] = _run(one, places)
        if runs[job.name]["state"] == "finished":
            for name, value in _numbers(places.folder(job) / job.result, transfer).items():
                found[name][seed] = value
    paper = dict(zip(transfer.numbers, table.paper_numbers(row, transfer.stands_for), strict=False))
    return {name: {"paper": paper.get(name)} | summarize(values) for name, values in found.items()}


def _run(job: Job, places: Places) -> dict[str, Any]:
    folder = places.folder(job)
    record = read_record(folder)
    present = [file for file in ("flags.cfg", LOG) if (folder / file).is_file()]
    return {
        "job": job.name,
        "state": _state(job, places),
        "seconds": record.seconds if record is not None and not record.submitted else None,
        # A linear probe trains on features.
        "images_per_second": images_per_second(folder) if job.script != "linear_probe" else None,
        "commit": record.commit if record is not None else "",
        "files": {file: f"{job.name}/{file}" for file in present},
    }


def _state(job: Job, places: Places) -> str:
    folder = places.folder(job)
    record = read_record(folder)
    if record is None and not (folder / "flags.cfg").exists():
        return "not run"
    if differences(job, places):
        return "other flags"
    if is_finished(job, places):
        return "finished"
    if record is None or record.exit_code is None:
        submitted = record.submitted if record is not None else ""
        return f"submitted as {submitted}" if submitted else "begun"
    return "stopped" if record.exit_code in (130, 143) else f"failed ({record.exit_code})"


def _numbers(file: pathlib.Path, transfer: Transfer) -> dict[str, float]:
    results = json.loads(file.read_text())
    numbers = {name: results.get(name) for name in transfer.numbers}
    # A share of nothing is NaN.
    return {k: v for k, v in numbers.items() if v is not None and v == v}


def _paper_label(table: Table, transfer: Transfer) -> str | None:
    """Name of a column in the paper; None if its table does not have the column."""
    if transfer.stands_for not in table.transfers:
        return None
    return PAPER.transfer(transfer.stands_for).label


def _notes(row: Row, planner: Planner) -> Sequence[str]:
    if planner.scale.is_paper:
        return []
    one = PRETRAININGS[row.pretraining]
    notes = [one.note] if one.note else []
    if one.preset is not None and one.flags is None:
        notes.append("differs from another row in its length only: not part of this scale")
    for name in row.instead:
        notes.append(f"the paper's {PAPER.transfer(name).label} is of a pre-training with FPN")
    return notes


def _seeds_found(workdir: pathlib.Path) -> set[int]:
    names = (re.fullmatch(r"seed(\d+)", path.name) for path in workdir.glob("*/seed*"))
    return {int(match[1]) for match in names if match}
