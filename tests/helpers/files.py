"""Files that a run wrote, read again."""

import json
import pathlib


def read_metrics(workdir):
    """The lines of a run's `metrics.jsonl`, a dict each."""
    lines = (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
