"""TensorBoard files of a run."""

import os
from collections.abc import Callable

import tensorflow as tf
from absl import logging

from pixpro_keras.utils.errors import first_line


class Charts:
    """TensorBoard event file. Errors never end a run: what cannot be written is missing from the charts.

    Args:
        directory: folder of the file, which is created once there is something to write.
        suffix: end of its name.

    Example:
        ```python
        import tempfile

        import tensorflow as tf
        from pixpro_keras.utils.summaries import Charts

        charts = Charts(tempfile.mkdtemp(), ".scalars")
        charts.write(10, lambda: tf.summary.scalar("loss", 0.5))
        charts.close()
        ```
    """

    def __init__(self, directory: str | os.PathLike, suffix: str):
        self._directory = os.fspath(directory)
        self._suffix = suffix
        self._writer: tf.summary.SummaryWriter | None = None

    def write(self, step: int, summarize: Callable[[], None]) -> None:
        """Writes the summaries of a step.

        Args:
            step: number of the step.
            summarize: function that calls `tf.summary.scalar` or its like.
        """
        try:
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(
                    self._directory, filename_suffix=self._suffix
                )
            with self._writer.as_default(step=step):
                summarize()
        except (OSError, tf.errors.OpError) as error:
            logging.warning("No charts of step %d: %s", step, first_line(error))
            self.close()

    def flush(self) -> None:
        """Flushes the file."""
        if self._writer is not None:
            try:
                self._writer.flush()
            except tf.errors.OpError as error:
                logging.warning("Charts are missing: %s", first_line(error))

    def close(self) -> None:
        """Ends the file; later summaries go to a new one.

        Readers of a file see nothing that follows a disk error in it.
        """
        self.flush()
        self._writer = None
