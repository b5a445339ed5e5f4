"""The one training loop, under every strategy."""

import time
from collections.abc import Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.task import Task
from pixpro_keras.training.stalls import warn_of_stall


def train(
    task: Task,
    batches: Iterable,
    *,
    strategy: tf.distribute.Strategy,
    epochs: int,
    steps_per_epoch: int,
    batch_size: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    log_every_steps: int = 10,
    jit_compile: bool = False,
    stall_seconds: float = 60.0,
) -> None:
    """Trains from the task's step to the last one, driving Keras callbacks.

    Keras's own `fit` goes on working on one device and mirrored; it cannot run under
    MultiWorkerMirroredStrategy, nor start in the middle of an epoch, nor tell how long it waited
    for input.

    Callbacks see `on_train_batch_end(step in epoch, logs)` with the means of the newest window of
    `log_every_steps` steps, and `on_epoch_end(epoch, logs)` with the epoch's means, both with
    `images_per_second`, `input_wait_share` (share of the time spent waiting for the next batch) and
    `step` (steps done since the run's beginning; reading it from the task would wait for the
    accelerator). In `on_train_batch_end` there are `bad_steps`, the number of skipped steps since
    the call of this function, which are left out of the means, and `bad_steps_in_row`, how many of
    them were the last ones.
    A callback ends the training early by setting `task.stop_training`.

    Args:
        task: compiled, its optimizer built, in the strategy's scope.
        batches: iterable of the batches from `task.step` on; a distributed data set if the
            strategy has replicas.
        strategy: where the step runs.
        epochs: last epoch of the run, counted from its very beginning.
        steps_per_epoch: steps in an epoch.
        batch_size: images in a step, all replicas together.
        callbacks: Keras callbacks.
        log_every_steps: steps in a window; the step's results are fetched once in each.
        jit_compile: whether XLA compiles the step; on one device only.
        stall_seconds: a longer wait for a batch is warned of while it lasts.
    """
    callback_list = keras.callbacks.CallbackList(
        list(callbacks), model=task, epochs=epochs, steps=steps_per_epoch
    )

    @tf.function(jit_compile=jit_compile)
    def train_step(batch):
        return strategy.run(task.train_step, args=(batch,))

    task.stop_training = False
    first, last = task.steps_done(), epochs * steps_per_epoch
    iterator = iter(batches)
    callback_list.on_train_begin({"step": first})
    done, window, epoch_means = first, _Window(batch_size), _Window(batch_size)
    bad = {"bad_steps": 0, "bad_steps_in_row": 0}
    for step in range(first, last):
        epoch, step_in_epoch = divmod(step, steps_per_epoch)
        if step_in_epoch == 0 or step == first:
            callback_list.on_epoch_begin(epoch)
            epoch_means = _Window(batch_size)
        callback_list.on_train_batch_begin(step_in_epoch)
        asked = time.perf_counter()
        with warn_of_stall(step + 1, stall_seconds):
            batch = next(iterator)
        waited = time.perf_counter() - asked
        outputs = {
            name: strategy.experimental_local_results(value)[0]
            for name, value in train_step(batch).items()
        }
        window.add(outputs, waited)
        is_epoch_end = step_in_epoch == steps_per_epoch - 1
        # Fetching waits for the accelerator, so it is done once in a window.
        if (step + 1) % log_every_steps == 0 or is_epoch_end or step == first:
            means = window.means()
            bad = window.count_bad(**bad)
            means |= bad
            epoch_means.merge(window)
            # The first step holds the tracing, which says nothing about speed.
            window = _Window(batch_size)
        done = step + 1
        callback_list.on_train_batch_end(step_in_epoch, means | {"step": done})
        if is_epoch_end:
            callback_list.on_epoch_end(epoch, epoch_means.means() | {"step": done})
        if task.stop_training:
            break
    callback_list.on_train_end({"step": done})


class _Window:
    """Outputs, time and waiting time of some steps."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._started = time.perf_counter()
        self._outputs: list[dict] = []
        self._waited = 0.0

    def add(self, outputs: dict, waited: float) -> None:
        self._outputs.append(outputs)
        self._waited += waited

    def merge(self, other: "_Window") -> None:
        self._outputs += other._outputs
        self._waited += other._waited

    def means(self) -> dict[str, float]:
        self._outputs = [{k: float(v) for k, v in one.items()} for one in self._outputs]
        seconds = time.perf_counter() - self._started
        # The loss of a skipped step would hide the others'.
        counted = [one for one in self._outputs if not one["bad_steps"]] or self._outputs
        means = {name: float(np.mean([one[name] for one in counted])) for name in counted[0]}
        means["images_per_second"] = len(self._outputs) * self._batch_size / seconds
        means["input_wait_share"] = self._waited / seconds
        return means

    def count_bad(self, bad_steps: int, bad_steps_in_row: int) -> dict[str, int]:
        """Counts the skipped steps on, from what they were before the window; after `means`."""
        for one in self._outputs:
            is_bad = int(one["bad_steps"])
            bad_steps += is_bad
            bad_steps_in_row = is_bad * (bad_steps_in_row + 1)
        return {"bad_steps": bad_steps, "bad_steps_in_row": bad_steps_in_row}
