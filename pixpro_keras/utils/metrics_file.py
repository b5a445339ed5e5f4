"""Reader of a run's `metrics.jsonl`."""

import json
import os
import pathlib
from typing import Any

METRICS_FILE = "metrics.jsonl"
# Key of a line's list of what was evaluated then, beside the metrics of the training.
MEASURED = "measured"


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    r"""Reads the finished lines of a run's `metrics.jsonl`.

    Args:
        path: path of the file.

    Returns:
        A dict for each line, `{"step": int, "epoch": float, name: value, ...}`, in the order of the
        file, without the list `measured`. An incomplete last line, as in a running job, is ignored.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a finished line is not JSON.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.visualize import read_metrics

        path = pathlib.Path(tempfile.mkdtemp()) / "metrics.jsonl"
        path.write_text('{"step": 1, "epoch": 0.5, "loss": 0.3}\n')
        print(read_metrics(path))
        ```
    """
    records = _read(path)
    for record in records:
        record.pop(MEASURED, None)
    return records


def read_measured(path: str | os.PathLike) -> list[dict[str, Any]]:
    r"""Reads the evaluations during a run, those before a resume included.

    Args:
        path: path of the run's `metrics.jsonl`.

    Returns:
        A dict for each evaluation, `{"step": int, name: value, ...}`.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.utils.metrics_file import read_measured

        path = pathlib.Path(tempfile.mkdtemp()) / "metrics.jsonl"
        path.write_text('{"step": 1, "loss": 0.3, "knn_top1": 0.5, "measured": ["knn_top1"]}\n')
        assert read_measured(path) == [{"step": 1, "knn_top1": 0.5}]
        ```
    """
    return [
        {name: record[name] for name in ("step", *record[MEASURED])}
        for record in _read(path)
        if MEASURED in record
    ]


def _read(path: str | os.PathLike) -> list[dict[str, Any]]:
    lines = pathlib.Path(path).read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
