"""Keras callbacks of a pre-training run."""

import json
import math
import os
import pathlib
import resource
import signal
import sys
from collections.abc import Mapping

import keras
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from pixpro_keras.training.checkpoints import Checkpoints, SaveError
from pixpro_keras.utils.files import append, survive_disk, write_atomically
from pixpro_keras.utils.summaries import Charts


def steps_done(logs: Mapping[str, float]) -> int:
    """Steps since the run's beginning; Keras turns all logs into floats."""
    return int(logs["step"])


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves every so many steps and at the end, whatever ends the training in order.

    Args:
        checkpoints: where to.
        every_steps: steps between two checkpoints, at least 1.
        is_error_fatal: whether a checkpoint that cannot be written ends the run. Else it is tried
            again when the next one is due; that of the last step must succeed.
    """

    def __init__(self, checkpoints: Checkpoints, every_steps: int, is_error_fatal: bool = True):
        super().__init__()
        self._checkpoints = checkpoints
        self._every_steps = every_steps
        self._is_error_fatal = is_error_fatal
        self._saved_step = -1

    def on_train_begin(self, logs=None):
        """Notes where the run stands."""
        self._saved_step = steps_done(logs)

    def on_train_batch_end(self, batch, logs=None):
        """Saves when it is time."""
        if steps_done(logs) % self._every_steps == 0:
            self._save(steps_done(logs), self._is_error_fatal)

    def on_train_end(self, logs=None):
        """Saves what came after the last checkpoint."""
        if steps_done(logs) != self._saved_step:
            self._save(steps_done(logs), is_error_fatal=True)

    def _save(self, step: int, is_error_fatal: bool):
        try:
            self._checkpoints.save()
        except SaveError as error:
            message = f"{error}. The last good state is that of step {self._saved_step}"
            if is_error_fatal:
                raise SaveError(message) from error
            logging.error("%s. The run goes on and will try again.", message)
        else:
            self._saved_step = step


class RunLog(keras.callbacks.Callback):
    """Writes `metrics.jsonl` and TensorBoard scalars.

    A line of `metrics.jsonl` is `{"step": steps done, "epoch": epochs done, name: mean, ...}`. After
    a resume the lines past the checkpoint are dropped, since those steps are taken again.

    Args:
        workdir: the run's directory, which exists.
        steps_per_epoch: steps in an epoch.
        log_every_steps: steps between two lines; the end of an epoch has one too.
        loss_bounds: `(lowest, highest)` of each loss term, for the charts' names.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        steps_per_epoch: int,
        log_every_steps: int,
        loss_bounds: Mapping[str, tuple[float | None, float | None]],
    ):
        super().__init__()
        self._file = pathlib.Path(workdir) / "metrics.jsonl"
        self._steps_per_epoch = steps_per_epoch
        self._log_every_steps = log_every_steps
        self._loss_bounds = loss_bounds
        self._charts = Charts(workdir, ".scalars")
        self._unwritten = ""

    def on_train_begin(self, logs=None):
        """Drops the lines of steps that will be taken again."""
        if not self._file.exists():
            return
        step = steps_done(logs)
        kept = [
            line
            for line in self._file.read_text().splitlines(keepends=True)
            if line.endswith("\n") and json.loads(line)["step"] <= step
        ]
        with survive_disk(str(self._file)):
            write_atomically(self._file, "".join(kept).encode())

    def on_train_batch_end(self, batch, logs=None):
        """Writes the newest window."""
        step = steps_done(logs)
        if step % self._log_every_steps and step % self._steps_per_epoch:
            return
        values = dict(logs) | {"memory_mib": memory_mib()}
        del values["step"]
        line = {"step": step, "epoch": step / self._steps_per_epoch}
        # JSON has no NaN, as after a window of skipped steps.
        line |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._unwritten += json.dumps(line) + "\n"
        self._write_lines()

        def summarize():
            for name, value in values.items():
                tf.summary.scalar(chart_name(name, self._loss_bounds), value)

        if not self._unwritten:  # else the disk takes no charts either
            self._charts.write(step, summarize)

    def on_train_end(self, logs=None):
        """Writes what could not be written before; flushes the charts."""
        self._write_lines()
        self._charts.flush()

    def _write_lines(self):
        """Appends the lines that wait for it; after an error of the disk they go on waiting."""
        with survive_disk(str(self._file)):
            try:
                append(self._file, self._unwritten.encode())
                self._unwritten = ""
            except OSError:
                self._charts.close()
                raise


def chart_name(name: str, loss_bounds: Mapping[str, tuple[float | None, float | None]]) -> str:
    """A metric's name in TensorBoard: losses with their bounds, since negative ones are normal."""
    if name == "loss" and len(loss_bounds) == 1:
        (bounds,) = loss_bounds.values()
    elif name in loss_bounds:
        bounds = loss_bounds[name]
    else:
        return name
    low, high = ("inf" if bound is None else f"{bound:g}" for bound in bounds)
    return f"loss/{name} in [{low}, {high}]"


def memory_mib() -> float:
    """Peak memory in MiB: of the first GPU where there is one, else of this process."""
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


class Progress(keras.callbacks.Callback):
    """A bar with images/s and time left, and a line per epoch.

    Args:
        epochs: epochs of the run.
        steps_per_epoch: steps in an epoch.
        batch_size: images in a step.
    """

    def __init__(self, epochs: int, steps_per_epoch: int, batch_size: int):
        super().__init__()
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._bar: tqdm | None = None

    def on_train_begin(self, logs=None):
        """Shows the bar, at the step from which the run continues."""
        self._bar = tqdm(
            total=self._epochs * self._steps_per_epoch * self._batch_size,
            initial=steps_done(logs) * self._batch_size,
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            # In a log file the bar is a line, and one every half minute is enough.
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar."""
        self._bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)
        self._bar.update(steps_done(logs) * self._batch_size - self._bar.n)

    def on_epoch_end(self, epoch, logs=None):
        """Prints the epoch's line."""
        parts = [f"epoch {epoch + 1}/{self._epochs}", f"loss {logs['loss']:.3f}"]
        if "positive_share" in logs:
            parts.append(f"positive pairs {logs['positive_share']:.1%}")
        if "feature_std" in logs:
            parts.append(f"feature std {logs['feature_std']:.3f}")
        parts.append(f"lr {logs['learning_rate']:.3g}")
        parts.append(f"{logs['images_per_second']:.1f} images/s")
        if "input_wait_share" in logs:
            parts.append(f"waiting for input {logs['input_wait_share']:.0%}")
        self._bar.write("  ".join(parts))

    def on_train_end(self, logs=None):
        """Leaves the bar as it is."""
        self._bar.close()


class VitalSigns(keras.callbacks.Callback):
    """Warns in words when a run is sick: of collapse and of missing positives.

    Args:
        collapsed_std: `feature_std` below which all features count as the same.
    """

    def __init__(self, collapsed_std: float = 0.02):
        super().__init__()
        self._collapsed_std = collapsed_std
        self._said: set[str] = set()

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the newest window."""
        step = steps_done(logs)
        if logs.get("feature_std", 1.0) < self._collapsed_std:
            self._say_once(
                f"The features have collapsed (step {step}): their standard deviation is "
                f"{logs['feature_std']:.4f} of at most 1, so all pixels look the same to the "
                "network. Lower the learning rate or raise the batch size."
            )
        if logs.get("positive_share", 1.0) == 0:
            self._say_once(
                f"No pixel pair was positive up to step {step}, so nothing is learned: --threshold "
                "is too small or the crops do not overlap."
            )

    def _say_once(self, message: str) -> None:
        kind = message.split("(")[0][:20]
        if kind not in self._said:
            self._said.add(kind)
            logging.warning(message)


def exit_code_of(number: int) -> int:
    """130 after Ctrl-C; 143 after a scheduler's signal, as of a process that SIGTERM ended.

    The latter is what schedulers start a job again for.
    """
    return 128 + (signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)


class StopOnSignal(keras.callbacks.Callback):
    """Ctrl-C, SIGTERM or SIGUSR1 ends the training after the current step; a second one at once.

    SIGTERM and SIGUSR1 are what schedulers send before they take a machine away.

    Attributes:
        received: the signal that ended the training, or None.
    """

    def __init__(self):
        super().__init__()
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, object] = {}

    def on_train_begin(self, logs=None):
        """Takes over the signals."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            self._previous[number] = signal.signal(number, self._stop)

    def _stop(self, number, frame):
        self.received = signal.Signals(number)
        for known in self._previous:
            # A handler of Python would wait for the end of the step.
            signal.signal(known, signal.SIG_DFL)
        tqdm.write(f"{self.received.name}: saving after this step; once more to leave at once.")

    def on_train_batch_end(self, batch, logs=None):
        """Passes the wish on."""
        if self.received is not None:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Gives the signals back."""
        self._give_back()

    def _give_back(self):
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
