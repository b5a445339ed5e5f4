"""Records in the folders of jobs: flags, times and exit codes."""

import dataclasses
import importlib
import json
import pathlib
from collections.abc import Iterable
from typing import Any

from pixpro_keras.cli.options import parsing, presets
from pixpro_keras.cli.options.option_fields import option_fields
from pixpro_keras.cli.paper_tables.jobs import Job, Places
from pixpro_keras.utils.files import write_atomically
from pixpro_keras.utils.metrics_file import METRICS_FILE, read_metrics

RECORD = "job.json"
LOG = "log.txt"
# Class of each command's options, by module.
_OPTIONS = {
    "pretrain": ("pixpro_keras.cli.options.pretrain_options", "PretrainOptions"),
    "detect": ("pixpro_keras.cli.options.detect_options", "DetectOptions"),
    "segment": ("pixpro_keras.cli.options.segment_options", "SegmentOptions"),
    "linear_probe": ("pixpro_keras.cli.linear_probe", "LinearProbeOptions"),
    "knn": ("pixpro_keras.cli.knn", "KnnOptions"),
}
# Flags that a continued run may change, but not a row of a table.
_OF_RESULTS = {"weights", "bn_batches", "test_short_side", "window_stride", "whole_images"}
# Flags that a command derives from others and from the data.
_WORKED_OUT = {"backbone", "train_dataset", "test_dataset", "num_classes"}


@dataclasses.dataclass
class Record:
    """`job.json`.

    Attributes:
        flags: name -> value of the job, presets resolved; those of its pre-training begin with
            `pretrain `.
        commit: commit of the code that ran last.
        seconds: running time of all attempts.
        exit_code: exit code of the last attempt; None while it runs, or if it was killed together with this
            command.
        finished: time of the end in UTC; empty before.
        pretrained: time at which its pre-training finished, in UTC.
        submitted: the cluster's name of the job.
    """

    flags: dict[str, str]
    commit: str = ""
    seconds: float = 0.0
    exit_code: int | None = None
    finished: str = ""
    pretrained: str = ""
    submitted: str = ""

    def write(self, folder: pathlib.Path) -> None:
        """Writes the record to a job's folder."""
        text = json.dumps(dataclasses.asdict(self), indent=2)
        write_atomically(folder / RECORD, text.encode())


def read_record(folder: pathlib.Path) -> Record | None:
    """Reads the record of a job's folder; None if the job was not started by this command."""
    try:
        return Record(**json.loads((folder / RECORD).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_finished(job: Job, places: Places) -> bool:
    """Returns True if the result of a job exists."""
    folder = places.folder(job)
    record = read_record(folder)
    # Jobs that ran elsewhere have a result only.
    ended_well = record is None or record.exit_code == 0 or bool(record.submitted)
    return ended_well and (folder / job.result).is_file()


def differences(job: Job, places: Places) -> list[str]:
    """Differences between a job and the one that started in its folder; empty if none did."""
    folder = places.folder(job)
    record, now = read_record(folder), resolved_flags(job)
    if record is None:
        return _other_than_file(job, places)
    found = [
        f"{name}: was {record.flags.get(name, 'not given')}, is {now.get(name, 'not given')}"
        for name in sorted({*record.flags, *now})
        if record.flags.get(name) != now.get(name)
    ]
    if not found and record.pretrained and record.pretrained != pretrained(job, places):
        found = ["its pre-training has run again since"]
    return found


def pretrained(job: Job, places: Places) -> str:
    """Time at which a job's pre-training finished; empty if unknown."""
    record = read_record(places.folder(job.after)) if job.after is not None else None
    return record.finished if record is not None else ""


def resolved_flags(job: Job) -> dict[str, str]:
    """Values of a job's flags and of its pre-training's, with those of presets; the last one wins."""
    values = _values(presets.expand(job.flags))
    if job.after is not None:
        values |= {f"pretrain {k}": v for k, v in resolved_flags(job.after).items()}
    return values


def set_aside(folder: pathlib.Path) -> pathlib.Path:
    """Renames a folder, so that its job starts from the beginning. Returns the new path."""
    number = 1
    while (old := folder.with_name(f"{folder.name}.old{number}")).exists():
        number += 1
    return folder.rename(old)


def images_per_second(folder: pathlib.Path) -> float | None:
    """Median speed of a training; None if it has no log."""
    try:
        metrics = read_metrics(folder / METRICS_FILE)
    except (OSError, ValueError):
        return None
    speeds = (one.get("images_per_second") for one in metrics)
    known = sorted(speed for speed in speeds if speed is not None)
    return known[len(known) // 2] if known else None


def _other_than_file(job: Job, places: Places) -> list[str]:
    """Flags that differ in a job without a record or in its pre-training, read from `flags.cfg`."""
    file = places.folder(job) / "flags.cfg"
    try:
        ran = _values(parsing.read_flags(file))
    except OSError:
        return []
    planned = {
        name: places.fill(value) for name, value in _values(presets.expand(job.flags)).items()
    }
    found = [
        f"{name}: was {ran.get(name, 'not given')}, is {value}"
        for name, value in planned.items()
        # `auto` is written as the value that was chosen on that machine.
        if value != "auto" and _number(ran.get(name)) != _number(value)
    ]
    found += [
        f"{name}: was {value}, is not given"
        for name, value in _added_flags(job, file).items()
        if name not in planned
    ]
    if job.after is not None:
        found += [f"pretrain {one}" for one in differences(job.after, places)]
    return found


def _added_flags(job: Job, file: pathlib.Path) -> dict[str, Any]:
    """Values in a `flags.cfg`, which lists all flags, that are not the command's defaults.

    Flags that differ between machines, or that a command derives, such as a run's length, are left out.
    """
    if job.script not in _OPTIONS:
        return {}
    from pixpro_keras.cli.shared.run_recipe import FREE_FLAGS  # TensorFlow takes seconds.

    module, name = _OPTIONS[job.script]
    cls = getattr(importlib.import_module(module), name)
    ran = parsing.load(cls, file)
    free = FREE_FLAGS - _OF_RESULTS | _WORKED_OUT
    return {
        field.name: getattr(ran, field.name)
        for field in option_fields(cls)
        if field.name not in free and getattr(ran, field.name) != field.default
    }


def _values(flags: Iterable[str]) -> dict[str, str]:
    values = {}
    for flag in flags:
        name, equals, value = flag.lstrip("-").partition("=")
        if not equals:
            value = "false" if name.startswith("no") else "true"
            name = name.removeprefix("no")
        values[name] = value
    return values


def _number(value: str | None) -> Any:
    """Converts a value to a number if possible, so that 1e-4 equals 0.0001."""
    try:
        return float(value or "")
    except ValueError:
        return value
