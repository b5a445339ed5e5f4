"""What happens after steps that were skipped because the loss or a gradient was not finite."""

import os
import pathlib
from collections.abc import Callable, Iterable

import keras
from absl import logging

from pixpro_keras.utils.files import survive_disk, write_atomically

BAD_BATCHES_FILE = "bad_batches.tsv"


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a number."""


class BadSteps(keras.callbacks.Callback):
    """Says how many steps were skipped, and ends the run after too many in a row.

    Looks at what the loop fetched last, so it may come some steps late; they were skipped too.

    Args:
        max_in_row: skipped steps in a row that end the run, at least 1.
        workdir: where `bad_batches.tsv` goes then: a line `STEP<tab>IMAGE` for each image of the
            steps in question; None writes none.
        name_images: step, counted from 0, to what its images are called.
    """

    def __init__(
        self,
        max_in_row: int,
        workdir: str | os.PathLike | None = None,
        name_images: Callable[[int], Iterable[str]] | None = None,
    ):
        super().__init__()
        self._max_in_row = max_in_row
        self._workdir = workdir
        self._name_images = name_images
        self._num_known = 0

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the newest window.

        Raises:
            TrainingDivergedError: if too many steps in a row were skipped. No weights hold anything
                of them.
        """
        step, num_bad, in_row = (
            int(logs[name]) for name in ("step", "bad_steps", "bad_steps_in_row")
        )
        if in_row >= self._max_in_row:
            raise TrainingDivergedError(
                f"the loss or a gradient was not finite in the last {in_row} steps up to step {step}: "
                "lower --base_learning_rate, or use --precision=float32, or look at the images"
                f"{self._write(step - in_row, step)}. No checkpoint holds anything of them."
            )
        if num_bad > self._num_known:
            logging.warning(
                "Skipped %d step(s) up to step %d: the loss or a gradient was not finite.",
                num_bad - self._num_known,
                step,
            )
            self._num_known = num_bad

    def _write(self, first: int, end: int) -> str:
        """Writes the names of the images of some steps; returns where they are."""
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
