"""Reader of a run's `metrics.jsonl`."""

import json
import os
import pathlib
from typing import Any

METRICS_FILE = "metrics.jsonl"


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    r"""Reads the finished lines of a run's `metrics.jsonl`.

    Args:
        path: path of the file.

    Returns:
        A dict for each line, `{"step": int, "epoch": float, name: value, ...}`, in the order of the
        file. An incomplete last line, as in a running job, is ignored.

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
    lines = pathlib.Path(path).read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
