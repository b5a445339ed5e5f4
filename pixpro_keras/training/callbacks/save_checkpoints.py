"""Checkpoints while a run trains."""

import keras
from absl import logging

from pixpro_keras.training.callbacks.steps import steps_done
from pixpro_keras.training.checkpoints import Checkpoints, SaveError
from pixpro_keras.utils.checks import at_least


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves at regular steps and at every orderly end of the training.

    Args:
        checkpoints: checkpoints of the model that is trained.
        every_steps: steps between two checkpoints, at least 1.
        is_error_fatal: whether a checkpoint that cannot be written ends the run. Otherwise the run
            saves again at the next checkpoint; that of the last step must succeed.

    Raises:
        SaveError: while training, if a checkpoint cannot be written.

    Example:
        ```python
        import tempfile

        import keras
        from pixpro_keras.task import Task
        from pixpro_keras.training import Checkpoints
        from pixpro_keras.training.callbacks import SaveCheckpoints

        task = Task()
        task.compile(keras.optimizers.SGD(0.1))
        task.optimizer.build(task.trainable_variables)
        checkpoints = Checkpoints(tempfile.mkdtemp(), task, {"model": "tiny"})
        save = SaveCheckpoints(checkpoints, every_steps=500)  # of `callbacks` of `fit`
        ```
    """

    def __init__(self, checkpoints: Checkpoints, every_steps: int, is_error_fatal: bool = True):
        super().__init__()
        self._checkpoints = checkpoints
        self.every_steps = at_least("every_steps", every_steps, 1)
        self._is_error_fatal = is_error_fatal
        self._saved_step = -1

    def on_train_begin(self, logs=None):
        """Stores the current step."""
        self._saved_step = steps_done(logs, self.model)

    def on_train_batch_end(self, batch, logs=None):
        """Saves at the steps that are due."""
        step = steps_done(logs, self.model)
        if step % self.every_steps == 0:
            self._save(step, self._is_error_fatal)

    def on_train_end(self, logs=None):
        """Saves the steps after the last checkpoint."""
        step = steps_done(logs, self.model)
        if step != self._saved_step:
            self._save(step, is_error_fatal=True)

    def save_before_error(self) -> None:
        """Saves the steps after the last checkpoint, for a run that ends by an error of its input.

        A checkpoint that cannot be written is only logged, so that the error is the one that is seen.
        """
        step = steps_done(None, self.model)
        if step == self._saved_step:
            return
        try:
            self._save(step, is_error_fatal=True)
        except SaveError as error:
            logging.error("%s", error)
        else:
            logging.info("The steps up to %d are saved.", step)

    def _save(self, step: int, is_error_fatal: bool) -> None:
        try:
            self._checkpoints.save()
        except SaveError as error:
            message = f"{error}. The last good state is that of step {self._saved_step}"
            if is_error_fatal:
                raise SaveError(message) from error
            logging.error("%s. The run continues and will try again.", message)
        else:
            self._saved_step = step
