"""Check of the number of steps whose loss or gradients are not finite."""

import os
import pathlib
from collections.abc import Callable, Iterable, Mapping

import keras
from absl import logging

from pixpro_keras.training.callbacks.steps import steps_done
from pixpro_keras.utils.checks import at_least
from pixpro_keras.utils.errors import UserError
from pixpro_keras.utils.files import survive_disk, write_atomically

BAD_BATCHES_FILE = "bad_batches.tsv"


class TrainingDivergedError(UserError, RuntimeError):
    """Error of a run whose loss is no longer finite."""


class NonfiniteSteps(keras.callbacks.Callback):
    """Warns about skipped steps, and ends the run after too many in a row.

    Under the project's loop it checks whole windows, so it may end the run some steps late; those
    steps were skipped, too. Under `model.fit` it counts the steps that it is called for.

    Args:
        max_in_row: skipped steps in a row that end the run, at least 1.
        workdir: directory for `bad_batches.tsv`, which is written when the run ends: a line
            `STEP<tab>IMAGE` for each image of these steps. None: not written.
        name_images: step, counted from 0, to the names of its images.

    Raises:
        TrainingDivergedError: while training, if too many steps in a row were skipped, and at its end, if
            all were. They did not change the weights.

    Example:
        ```python
        from pixpro_keras.training.callbacks import NonfiniteSteps

        check = NonfiniteSteps(max_in_row=10)  # of `callbacks` of `fit`
        ```
    """

    def __init__(
        self,
        max_in_row: int,
        workdir: str | os.PathLike | None = None,
        name_images: Callable[[int], Iterable[str]] | None = None,
    ):
        super().__init__()
        self._max_in_row = at_least("max_in_row", max_in_row, 1)
        self._workdir = workdir
        self._name_images = name_images
        self._num_skipped = 0
        self._num_in_row = 0
        self._first_step = 0

    def on_train_begin(self, logs=None):
        """Starts to count."""
        self._num_skipped, self._num_in_row = 0, 0
        self._first_step = steps_done(logs, self.model)

    def on_train_batch_end(self, batch, logs=None):
        """Checks the newest metrics."""
        step = steps_done(logs, self.model)
        num_new = self._count(logs or {})
        if self._num_in_row >= self._max_in_row:
            raise self._error(step)
        if num_new > 0:
            logging.warning(
                "Skipped %d step(s) up to step %d: the loss or a gradient was not finite.",
                num_new,
                step,
            )

    def on_train_end(self, logs=None):
        """Ends a short training with an error if all of its steps were skipped."""
        step = steps_done(logs, self.model)
        if 0 < self._num_in_row == step - self._first_step:
            raise self._error(step)

    def _error(self, step: int) -> TrainingDivergedError:
        first = step - self._num_in_row
        return TrainingDivergedError(
            f"the loss or a gradient was not finite in the last {self._num_in_row} steps up to "
            f"step {step}: lower the learning rate, or train in float32, or look at the images"
            f"{self._write(first, step)}. They did not change the checkpoints."
        )

    def _count(self, logs: Mapping[str, float]) -> int:
        """Adds up the skipped steps and returns the number of new ones."""
        num_bad = int(logs.get("bad_steps", 0))
        before = self._num_skipped
        if "bad_steps_in_row" in logs:  # The loop counts from the start of the training.
            self._num_skipped, self._num_in_row = num_bad, int(logs["bad_steps_in_row"])
        else:
            self._num_skipped += num_bad
            self._num_in_row = self._num_in_row + num_bad if num_bad else 0
        return self._num_skipped - before

    def _write(self, first: int, end: int) -> str:
        """Writes the image names of some steps to a file. Returns its path for the message."""
        if self._workdir is None or self._name_images is None:
            return ""
        file = pathlib.Path(self._workdir) / BAD_BATCHES_FILE
        lines = [
            f"{step + 1}\t{name}\n"
            for step in range(first, end)
            for name in self._name_images(step)
        ]
        with survive_disk(str(file)):
            write_atomically(file, "".join(lines).encode(errors="surrogateescape"))
        return f" in {file}"
