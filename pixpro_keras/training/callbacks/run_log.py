"""Log of a run: lines of JSON and TensorBoard's scalars."""

import json
import math
import os
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence

import keras
import tensorflow as tf

from pixpro_keras.task import Bounds
from pixpro_keras.training.callbacks.steps import steps_done
from pixpro_keras.utils.checks import at_least
from pixpro_keras.utils.files import append, survive_disk, write_atomically
from pixpro_keras.utils.memory import memory_mib
from pixpro_keras.utils.metrics_file import MEASURED, METRICS_FILE
from pixpro_keras.utils.summaries import Charts

_SPEED = ("images_per_second", "input_wait_share", "memory_mib")
# Measurements of a step, by name; empty if none is due.
Measurement = Callable[[int], Mapping[str, float]]


class RunLog(keras.callbacks.Callback):
    """Writes `metrics.jsonl` and TensorBoard's scalars.

    A line of `metrics.jsonl` is `{"step": steps done, "epoch": epochs done, name: value, ...}`. The
    values are what the callback is given (under the project's loop the means of the newest window,
    under `model.fit` those of the newest step), the peak memory, and what is measured at that step.
    After a resume the lines past the checkpoint are dropped, since those steps are taken again.

    Args:
        workdir: the run's directory, which exists.
        steps_per_epoch: steps in an epoch.
        log_every_steps: steps between two lines; the end of an epoch has one too.
        loss_bounds: `(lowest, highest)` of each loss term, for the charts' names.
        measurements: functions of the number of steps done to values by name, such as
            `evaluation.Monitor`. A step at which one of them gives values has a line.
        sinks: functions that also receive the number of steps done and the values, by their names
            in the charts, such as `Tracker.log`.
        flags: text of the run's flags, for the charts.

    Attributes:
        measured: values measured at the newest step, by name; empty if none was due.

    Example:
        ```python
        import tempfile

        from pixpro_keras.training.callbacks import RunLog

        log = RunLog(  # of `callbacks` of `fit`
            tempfile.mkdtemp(),
            steps_per_epoch=100,
            log_every_steps=10,
            loss_bounds={"pixel": (-4.0, 4.0)},
            measurements=[lambda step: {"hours": step / 3600} if step % 50 == 0 else {}],
        )
        ```
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        steps_per_epoch: int,
        log_every_steps: int,
        loss_bounds: Mapping[str, Bounds],
        measurements: Sequence[Measurement] = (),
        sinks: Sequence[Callable[[int, Mapping[str, float]], None]] = (),
        flags: str = "",
    ):
        super().__init__()
        self._file = pathlib.Path(workdir) / METRICS_FILE
        self._steps_per_epoch = at_least("steps_per_epoch", steps_per_epoch, 1)
        self._log_every_steps = at_least("log_every_steps", log_every_steps, 1)
        self._loss_bounds = loss_bounds
        self._measurements = measurements
        # For the loop, which calls callbacks at these steps also if it takes several at a time.
        self.every_steps = math.gcd(*(getattr(one, "every_steps", 0) for one in measurements))
        self._sinks = sinks
        self._flags = flags
        self._charts = Charts(workdir, ".scalars")
        self._unwritten = ""
        self.measured: dict[str, float] = {}
        self._measured_names: set[str] = set()

    def on_train_begin(self, logs=None):
        """Drops the lines of steps that will be taken again; shows the flags beside the charts."""
        step = steps_done(logs, self.model)
        if self._flags:
            # Markdown's form of text that keeps its lines.
            text = "\n".join(f"    {line}" for line in self._flags.splitlines())
            self._charts.write(step, lambda: tf.summary.text("flags", text))
        if not self._file.exists():
            return
        kept = [
            line
            for line in self._file.read_text().splitlines(keepends=True)
            if line.endswith("\n") and json.loads(line)["step"] <= step
        ]
        with survive_disk(str(self._file)):
            write_atomically(self._file, "".join(kept).encode())

    def on_train_batch_end(self, batch, logs=None):
        """Runs the evaluations that are due; writes the newest metrics."""
        step = steps_done(logs, self.model)
        self.measured = {
            name: x for measure in self._measurements for name, x in measure(step).items()
        }
        self._measured_names |= self.measured.keys()
        is_due = step % self._log_every_steps == 0 or step % self._steps_per_epoch == 0
        if not is_due and not self.measured:
            return
        values = dict(logs or {})
        values.pop("step", None)
        values |= self.measured
        values["memory_mib"] = memory_mib()
        line = {"step": step, "epoch": step / self._steps_per_epoch}
        # JSON has no NaN, which occurs after a window of skipped steps.
        line |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        if self.measured:
            line[MEASURED] = sorted(self.measured)
        self._unwritten += json.dumps(line) + "\n"
        self._write_lines()

        names = {name: chart_name(name, self._measured_names) for name in values}

        def summarize():
            for name, value in values.items():
                description = describe_bounds(name, self._loss_bounds)
                tf.summary.scalar(names[name], value, description=description)

        if not self._unwritten:  # After a failed write, charts would fail too.
            self._charts.write(step, summarize)
        for sink in self._sinks:
            sink(step, {names[name]: float(value) for name, value in values.items()})

    def on_train_end(self, logs=None):
        """Writes lines that could not be written before; flushes the charts."""
        self._write_lines()
        self._charts.flush()

    def _write_lines(self) -> None:
        """Appends the pending lines to the file. After a disk error they stay pending."""
        with survive_disk(str(self._file)):
            try:
                append(self._file, self._unwritten.encode())
                self._unwritten = ""
            except OSError:
                self._charts.close()
                raise


def chart_name(name: str, measured: Collection[str] = ()) -> str:
    """Name of a metric in TensorBoard and trackers, which group charts by the part before the slash.

    Args:
        name: name in the logs.
        measured: names of the values of evaluations during the run.

    Example:
        ```python
        from pixpro_keras.training.callbacks.run_log import chart_name

        assert chart_name("loss") == "train/loss"
        assert chart_name("images_per_second") == "speed/images_per_second"
        assert chart_name("knn_top1", measured={"knn_top1"}) == "eval/knn_top1"
        ```
    """
    if name in measured:
        return f"eval/{name}"
    return f"{'speed' if name in _SPEED else 'train'}/{name}"


def describe_bounds(name: str, loss_bounds: Mapping[str, Bounds]) -> str | None:
    """Description of a loss's chart: its bounds, since negative losses are normal. None for other metrics.

    Args:
        name: name in the logs.
        loss_bounds: `(lowest, highest)` of each loss term.

    Example:
        ```python
        from pixpro_keras.training.callbacks.run_log import describe_bounds

        assert describe_bounds("pixel", {"pixel": (-4.0, None)}) == "in [-4, inf]"
        ```
    """
    if name == "loss" and len(loss_bounds) == 1:
        (bounds,) = loss_bounds.values()
    elif name in loss_bounds:
        bounds = loss_bounds[name]
    else:
        return None
    low, high = bounds
    low_text = "-inf" if low is None else f"{low:g}"
    return f"in [{low_text}, {'inf' if high is None else f'{high:g}'}]"
