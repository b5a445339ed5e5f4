"""Progress of a run on the terminal."""

from collections.abc import Callable, Mapping

import keras
from tqdm import tqdm

from pixpro_keras.training.callbacks.steps import steps_done
from pixpro_keras.utils.bars import open_bar

# Name in the logs -> text of an epoch's line.
_PARTS = {
    "loss": "loss {:.3f}",
    "positive_share": "positives {:.1%}",
    "feature_std": "std {:.3f}",
    "feature_rank": "rank {:.1f}",
    "learning_rate": "lr {:.3g}",
    "images_per_second": "{:.4g} images/s",
    "input_wait_share": "wait {:.0%}",
}


class Progress(keras.callbacks.Callback):
    """Bar with images/s and time left, and a line per epoch.

    Args:
        epochs: epochs of the run.
        steps_per_epoch: steps in an epoch.
        batch_size: images in a step.
        measured: function without arguments that returns the newest measurements, shares by name, for the
            epoch's line.

    Example:
        ```python
        from pixpro_keras.training.callbacks import Progress

        # One of `callbacks` of `fit(..., verbose=0)`.
        progress = Progress(epochs=100, steps_per_epoch=1251, batch_size=1024)
        ```
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        batch_size: int,
        measured: Callable[[], Mapping[str, float]] = dict,
    ):
        super().__init__()
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._measured = measured
        self._bar: tqdm | None = None
        self._is_timed = False

    def on_train_begin(self, logs=None):
        """Shows the bar, at the step from which the run continues; none if no step is left."""
        self._is_timed = False
        first, total = steps_done(logs, self.model), self._epochs * self._steps_per_epoch
        self._bar = open_bar(
            total=total * self._batch_size,
            initial=first * self._batch_size,
            unit=" images",
            desc="compiling the step (about 15 s)",
            unit_scale=True,
            disable=first == total,
        )

    def on_train_batch_end(self, batch, logs=None):
        """Updates the bar."""
        steps = steps_done(logs, self.model)
        epoch = min(-(-steps // self._steps_per_epoch), self._epochs)
        self._bar.set_description_str(f"epoch {epoch}/{self._epochs}", refresh=False)
        if logs and "loss" in logs:
            self._bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)
        num_images = steps * self._batch_size
        if self._is_timed:
            self._bar.update(num_images - self._bar.n)
            return
        # The tracing before the first steps would be in the time left for as many steps again.
        self._is_timed = True
        self._bar.initial = self._bar.n = self._bar.last_print_n = num_images
        self._bar.unpause()
        self._bar.refresh()

    def on_epoch_end(self, epoch, logs=None):
        """Prints the epoch's line."""
        logs = logs or {}
        parts = [text.format(logs[name]) for name, text in _PARTS.items() if name in logs]
        parts += [f"{name} {value:.1%}" for name, value in self._measured().items()]
        self._bar.write("  ".join([f"epoch {epoch + 1}/{self._epochs}", *parts]))

    def on_train_end(self, logs=None):
        """Closes the bar."""
        self._bar.close()
