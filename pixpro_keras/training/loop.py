"""The one training loop, under every strategy."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.task import Task
from pixpro_keras.training.stalls import STALL_SECONDS, warn_of_stall
from pixpro_keras.training.workers import gather, is_multi_worker
from pixpro_keras.utils.checks import at_least


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
    steps_per_execution: int = 1,
    stall_seconds: float = STALL_SECONDS,
) -> None:
    """Trains from the task's step to the last one, driving Keras callbacks.

    Keras's `fit` works too on one device and mirrored, but it cannot run under
    MultiWorkerMirroredStrategy, start in the middle of an epoch, or measure the time spent waiting
    for input.

    Callbacks see `on_train_batch_end(step in epoch, logs)` with the means of the newest window of
    `log_every_steps` steps, and `on_epoch_end(epoch, logs)` with the epoch's means, both with
    `images_per_second`, `input_wait_share` (share of the time spent waiting for the next batch) and
    `step` (steps done since the run's beginning; reading it from the task would wait for the
    accelerator). `updates` is the count of the newest step, not a mean. In `on_train_batch_end` there are
    `bad_steps`, the number of skipped steps since the call of this function, which are left out of the
    means, and `bad_steps_in_row`, how many of them were the last ones.
    A callback ends the training early by setting `task.stop_training`. If there are several workers, any of
    them can do so, and all stop together at the end of the window: otherwise the others would wait for
    the one that stopped.

    With `steps_per_execution` one call of TensorFlow takes up to that many steps, and callbacks are
    called after the last of them: at the end of an epoch and of a window, and at multiples of each
    callback's `every_steps`, if it has that attribute. Weights and means are the same as with
    single steps. `input_wait_share` is missing, since the waiting happens inside the call.

    Args:
        task: compiled, its optimizer built, in the strategy's scope.
        batches: iterable of the batches from `task.step` on: a distributed data set if the strategy has
            several replicas, a `tf.data.Dataset` if an execution has several steps.
        strategy: distribution strategy that runs the step.
        epochs: epochs of the whole run, those before a resume included.
        steps_per_epoch: steps in an epoch.
        batch_size: images in a step, all replicas together.
        callbacks: Keras callbacks.
        log_every_steps: steps in a window; the step's results are fetched once in each.
        jit_compile: whether XLA compiles the step; on one device only.
        steps_per_execution: most steps in each call of TensorFlow, at least 1.
        stall_seconds: waiting time for a batch after which a warning is logged, in single steps.

    Raises:
        ValueError: if a number of steps is less than 1, or the batches end too early.

    Example:
        ```python
        import keras
        import tensorflow as tf
        from pixpro_keras.task import Task
        from pixpro_keras.training import train


        class Line(Task):
            loss_bounds = {"square": (0.0, None)}

            def __init__(self):
                super().__init__()
                self.slope = self.add_weight(name="slope", shape=(), initializer="ones")

            def call(self, batch, training=False):
                return {"square": keras.ops.mean((self.slope * batch["x"] - 2.0) ** 2)}


        task = Line()
        task.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        task.optimizer.build(task.trainable_variables)
        train(
            task,
            tf.data.Dataset.from_tensors({"x": tf.ones(1)}).repeat(),
            strategy=tf.distribute.get_strategy(),
            epochs=2,
            steps_per_epoch=5,
            batch_size=1,
        )
        assert task.steps_done() == 10
        ```
    """
    at_least("steps_per_epoch", steps_per_epoch, 1)
    at_least("log_every_steps", log_every_steps, 1)
    at_least("steps_per_execution", steps_per_execution, 1)
    first, last = task.steps_done(), epochs * steps_per_epoch
    periods = [log_every_steps, steps_per_epoch]
    if steps_per_execution > 1:
        periods += _periods_of_callbacks(callbacks, strategy)
    callback_list = keras.callbacks.CallbackList(
        list(callbacks), model=task, epochs=epochs, steps=steps_per_epoch
    )

    execute = _make_execution(task, strategy, jit_compile, steps_per_execution, stall_seconds)
    task.stop_training = False
    iterator = iter(batches)
    callback_list.on_train_begin({"step": first})
    done, window, epoch_means = first, _Window(batch_size), _Window(batch_size)
    bad = {"bad_steps": 0, "bad_steps_in_row": 0}
    while done < last:
        step = done
        epoch, step_in_epoch = divmod(step, steps_per_epoch)
        if step_in_epoch == 0 or step == first:
            callback_list.on_epoch_begin(epoch)
            epoch_means = _Window(batch_size)
        callback_list.on_train_batch_begin(step_in_epoch)
        num_steps = min(steps_per_execution, *(period - step % period for period in periods))
        with _missing_batches(step + num_steps, last):
            outputs, waited = execute(iterator, step, num_steps)
        window.add(outputs, waited)
        done = step + num_steps
        is_epoch_end = done % steps_per_epoch == 0
        # Fetching waits for the accelerator, so it is done once per window.
        is_window_end = done % log_every_steps == 0 or is_epoch_end or step == first
        if is_window_end:
            means = window.means()
            bad = window.count_bad(**bad)
            means |= bad
            epoch_means.merge(window)
            window = _Window(batch_size)
            # The first step includes tracing, so it is left out of the speed.
            if step == first and not is_epoch_end:
                epoch_means.restart_clock()
        last_of_execution = (done - 1) % steps_per_epoch
        callback_list.on_train_batch_end(last_of_execution, means | {"step": done})
        if is_epoch_end:
            callback_list.on_epoch_end(epoch, epoch_means.means() | {"step": done})
        if _must_stop(task, strategy, is_window_end):
            break
    callback_list.on_train_end({"step": done})


def _periods_of_callbacks(
    callbacks: Sequence[keras.callbacks.Callback], strategy: tf.distribute.Strategy
) -> list[int]:
    """Returns numbers of steps after which callbacks must be called, the same on all workers."""
    periods = [one.every_steps for one in callbacks if getattr(one, "every_steps", 0)]
    if is_multi_worker(strategy):
        # Workers wait for each other forever if one takes fewer steps, and only the chief has all callbacks.
        periods = [int(steps) for steps in gather(strategy, math.gcd(*periods)) if steps]
    return periods


def _must_stop(task: Task, strategy: tf.distribute.Strategy, is_window_end: bool) -> bool:
    """Returns True if a callback ends the training here; several workers end together, after a window."""
    if is_multi_worker(strategy):
        return is_window_end and bool(gather(strategy, float(task.stop_training)).any())
    return bool(task.stop_training)


def _make_execution(
    task: Task,
    strategy: tf.distribute.Strategy,
    jit_compile: bool,
    steps_per_execution: int,
    stall_seconds: float,
) -> Callable[[Iterator, int, int], tuple[dict, float | None]]:
    """Makes a function of the iterator, the number of steps done and the number of steps to run.

    It returns the outputs of the steps and the seconds spent waiting for input (None if not known).
    """

    def local(results: dict) -> dict:
        return {
            name: strategy.experimental_local_results(value)[0] for name, value in results.items()
        }

    if steps_per_execution == 1:

        @tf.function(jit_compile=jit_compile)
        def train_step(batch):
            return strategy.run(task.train_step, args=(batch,))

        def execute(iterator, step, num_steps):
            del num_steps  # one
            asked = time.perf_counter()
            with warn_of_stall(step + 1, stall_seconds):
                batch = next(iterator)
            waited = time.perf_counter() - asked
            return local(train_step(batch)), waited

        return execute

    # XLA cannot compile reading from an iterator.
    step = tf.function(task.train_step, jit_compile=True) if jit_compile else task.train_step
    names: list[str] = []

    @tf.function
    def train_steps(iterator, num_steps):
        results = tf.TensorArray(tf.float32, size=num_steps)
        for index in tf.range(num_steps):
            outputs = local(strategy.run(step, args=(next(iterator),)))
            names[:] = sorted(outputs)
            row = tf.stack([tf.cast(outputs[name], tf.float32) for name in names])
            results = results.write(index, row)
        return results.stack()

    def execute_several(iterator, step, num_steps):
        del step  # Waiting cannot be measured inside the graph.
        table = train_steps(iterator, tf.constant(num_steps))
        return {name: table[:, column] for column, name in enumerate(names)}, None

    return execute_several


@contextlib.contextmanager
def _missing_batches(step: int, last: int) -> Iterator[None]:
    """Context that converts the end of the batches before the last step to a ValueError."""
    try:
        yield
    except (StopIteration, tf.errors.OutOfRangeError) as error:
        raise ValueError(
            f"`batches` must not end before step {last}. Received: none for step {step}."
        ) from error


class _Window:
    """Outputs, time and input waiting time of the steps since the last log line."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._started = time.perf_counter()
        self._outputs: list[dict] = []
        self._waited: float | None = 0.0
        self._num_untimed = 0

    def add(self, outputs: dict, waited: float | None) -> None:
        """Adds scalars, or vectors of several steps. `waited` is in seconds, None if not known."""
        # The loop knows the number of steps without fetching it.
        self._outputs.append({name: x for name, x in outputs.items() if name != "step"})
        self._add_waiting(waited)

    def merge(self, other: "_Window") -> None:
        self._outputs += other._outputs
        self._add_waiting(other._waited)

    def restart_clock(self) -> None:
        """Leaves the steps so far out of speed and waiting time. Call it after `means` of what was merged."""
        self._num_untimed = sum(one["bad_steps"].size for one in self._outputs)
        self._started, self._waited = time.perf_counter(), 0.0

    def _add_waiting(self, waited: float | None) -> None:
        self._waited = None if waited is None or self._waited is None else self._waited + waited

    def means(self) -> dict[str, float]:
        self._outputs = [
            {name: np.ravel(value).astype(np.float64) for name, value in one.items()}
            for one in self._outputs
        ]
        seconds = time.perf_counter() - self._started
        steps = {
            name: np.concatenate([one[name] for one in self._outputs]) for name in self._outputs[0]
        }
        # Skipped steps are left out, since their losses may be NaN.
        counts = steps["bad_steps"] == 0
        if not counts.any():
            counts[:] = True
        means = {name: float(np.mean(values[counts])) for name, values in steps.items()}
        # A count: its mean would seem to miss some.
        means["updates"] = float(steps["updates"][-1])
        num_timed = len(counts) - self._num_untimed
        means["images_per_second"] = num_timed * self._batch_size / seconds
        if self._waited is not None:
            means["input_wait_share"] = self._waited / seconds
        return means

    def count_bad(self, bad_steps: int, bad_steps_in_row: int) -> dict[str, int]:
        """Adds the skipped steps of the window to the counts before it. Call it after `means`."""
        for is_bad in np.concatenate([one["bad_steps"] for one in self._outputs]).astype(int):
            bad_steps += int(is_bad)
            bad_steps_in_row = int(is_bad) * (bad_steps_in_row + 1)
        return {"bad_steps": bad_steps, "bad_steps_in_row": bad_steps_in_row}
