"""Training run of the commands and of Python users: devices, checkpoints, exact resume, logs."""

import contextlib
import os
import pathlib
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import keras
import tensorflow as tf
from absl import logging

from pixpro_keras.data.broken_images import BrokenImages, BrokenImagesError, WrongValueError
from pixpro_keras.task import Task
from pixpro_keras.training import strategy as strategies
from pixpro_keras.training.callbacks import (
    BrokenImagesCheck,
    CollapseWarning,
    NonfiniteSteps,
    Progress,
    RunLog,
    SaveCheckpoints,
    StopOnSignal,
)
from pixpro_keras.training.callbacks.run_log import Measurement
from pixpro_keras.training.checkpoints import Checkpoints
from pixpro_keras.training.device_memory import memory_errors
from pixpro_keras.training.devices import note_devices
from pixpro_keras.training.history import continue_history, read_history, write_history
from pixpro_keras.training.loop import train
from pixpro_keras.training.run_config import RunConfig, RunResult
from pixpro_keras.training.workers import (
    WorkerLostError,
    gather,
    is_chief,
    is_multi_worker,
    share_state,
    worker_errors,
)
from pixpro_keras.utils.metrics_file import METRICS_FILE, read_measured, read_metrics


def make_devices(
    strategy: str = "auto",
    *,
    deterministic: bool = False,
    make_multi_worker: Callable[[], tf.distribute.Strategy] | None = None,
) -> tf.distribute.Strategy:
    """Makes the distribution strategy of a run.

    Args:
        strategy: a name of `strategy.STRATEGIES`; see `strategy.make_strategy`.
        deterministic: whether a run is repeatable to the last bit, on the same number of devices:
            one operation at a time, and on GPUs only deterministic kernels. Must be set before
            TensorFlow uses a device, and needs the environment variable `TF_ENABLE_ONEDNN_OPTS=0`
            from before its import.
        make_multi_worker: function that joins the machines of `multi_worker`; default: those that
            `TF_CONFIG` names.

    Returns:
        A strategy. Models and optimizers are created in its scope.

    Raises:
        ValueError: if the name is unknown or there are no such devices.
        RuntimeError: if TensorFlow has used a device before `deterministic` could be set.

    Example:
        ```python
        from pixpro_keras.training import make_devices

        strategy = make_devices("one_device")
        assert strategy.num_replicas_in_sync == 1
        ```
    """
    if deterministic:
        if os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0":
            logging.warning(
                "TF_ENABLE_ONEDNN_OPTS is not 0: oneDNN's sums over several threads are not deterministic."
            )
        # In the order in which operations happen to finish, sums of three or more gradients round
        # differently, once in a few dozen runs.
        tf.config.threading.set_inter_op_parallelism_threads(1)
        if tf.config.list_physical_devices("GPU"):
            tf.config.experimental.enable_op_determinism()
    return strategies.make_strategy(strategy, make_multi_worker)


def open_checkpoints(
    task: Task,
    config: RunConfig,
    identity: Mapping[str, object],
    strategy: tf.distribute.Strategy | None = None,
    *,
    recipe: Mapping[str, object] | None = None,
    on_change: str = "stop",
    read_only: bool = False,
) -> tuple[Checkpoints, int]:
    """Opens the run's checkpoints, continues from the newest one and notes devices and recipe.

    Args:
        task: compiled, its optimizer built, in the strategy's scope; its weights become those of the
            newest checkpoint, on all workers.
        config: configuration of the run.
        identity: properties that make two runs' weights interchangeable (method, backbone, ...), JSON values.
        strategy: distribution strategy of the run; default: the present one.
        recipe: settings of the training steps (data, batch size, seed, ...), JSON values; noted in
            `history.json`.
        on_change: reaction to a recipe that differs from that of the newest steps: `stop` raises an
            error, `continue` continues.
        read_only: whether nothing is written, as in a dry run.

    Returns:
        The checkpoints, and the step from which the run continues.

    Raises:
        CheckpointError: if the checkpoints belong to another model, or none of them is intact.
        RunChangedError: if the recipe differs from that of the newest steps.
        FewerStepsError: if the checkpoint has more steps than the whole run.
        SaveError: if the disk has no space for a checkpoint.
        WorkerLostError: if another worker is lost.
        OSError: if the directory cannot be read or written.

    Example:
        ```python
        import keras
        from pixpro_keras import backbones, methods, training

        method = methods.SimCLR(
            backbones.build("resnet18_v1_5"), hidden_dim=16, out_dim=8, total_steps=10
        )
        method.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        method.optimizer.build(method.trainable_variables)
        config = training.RunConfig("runs/mine", epochs=1, steps_per_epoch=10, batch_size=8)
        checkpoints, first_step = training.open_checkpoints(method, config, {"method": "simclr"})
        assert first_step == 0
        ```
    """
    strategy = strategy or tf.distribute.get_strategy()
    workdir = pathlib.Path(config.workdir)
    checkpoints = Checkpoints(
        workdir / "checkpoints", task, dict(identity), config.keep_checkpoints
    )
    periods = []
    with worker_errors(strategy):
        if is_chief(strategy):
            first_step = checkpoints.restore()
            periods = continue_history(
                read_history(workdir), first_step, config.total_steps, recipe or {}, on_change
            )
            if first_step < config.total_steps:
                checkpoints.check_space()
        share_state(strategy, task)
    first_step = task.steps_done()
    if is_chief(strategy) and not read_only:
        workdir.mkdir(parents=True, exist_ok=True)
        if recipe:
            write_history(workdir, periods)
        note_devices(
            workdir,
            strategy,
            is_resumed=first_step > 0,
            precision=config.precision,
            batch_size=config.batch_size,
            accumulate_steps=config.accumulate_steps,
        )
    return checkpoints, first_step


def run_training(
    task: Task,
    make_batches: Callable[[tf.distribute.InputContext], tf.data.Dataset],
    config: RunConfig,
    checkpoints: Checkpoints,
    strategy: tf.distribute.Strategy | None = None,
    *,
    broken: BrokenImages | None = None,
    name_images: Callable[[int], Iterable[str]] | None = None,
    measurements: Sequence[Measurement] = (),
    make_chief_callbacks: Callable[[], Sequence[keras.callbacks.Callback]] = tuple,
    sinks: Sequence[Callable[[int, Mapping[str, float]], None]] = (),
    flags: str = "",
) -> RunResult:
    """Trains to the last step, or until a signal ends it, with checkpoints and logs.

    Args:
        task: compiled, its optimizer built, restored by `open_checkpoints`.
        make_batches: function of a machine's input context to its batches, from the task's step on.
        config: configuration of the run.
        checkpoints: as `open_checkpoints` returns them.
        strategy: distribution strategy of the run; default: the present one.
        broken: count of images that cannot be decoded, which ends the run once there are too many.
            Without it, a single one ends the run.
        name_images: step, counted from 0, to the names of its images.
        measurements: functions of the number of steps done to values by name, for the log.
        make_chief_callbacks: function that makes further callbacks; called by the chief alone.
        sinks: functions that also receive the logged values; see `RunLog`.
        flags: text of the run's flags, shown beside the charts.

    Returns:
        The state in which the run ended. Only the metrics differ between workers.

    Raises:
        SaveError: if a checkpoint that matters cannot be written.
        TrainingDivergedError: if too many steps in a row were not finite.
        BrokenImagesError: if too many images cannot be decoded.
        DeviceMemoryError: if a device has not enough memory.
        WorkerLostError: if another worker is lost.

    Example:
        ```python
        import tempfile

        import keras
        import tensorflow as tf
        from pixpro_keras.task import Task
        from pixpro_keras.training import RunConfig, open_checkpoints, run_training


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
        config = RunConfig(tempfile.mkdtemp(), epochs=2, steps_per_epoch=5, batch_size=1)
        checkpoints, first_step = open_checkpoints(task, config, {"model": "line"})
        batches = tf.data.Dataset.from_tensors({"x": tf.ones(1)}).repeat()
        result = run_training(task, lambda context: batches, config, checkpoints)
        assert result.steps == 10 and result.metrics["loss"] < 1.0
        ```
    """
    strategy = strategy or tf.distribute.get_strategy()
    workdir, is_writer = pathlib.Path(config.workdir), is_chief(strategy)
    metrics_file = workdir / METRICS_FILE
    stop = StopOnSignal()
    save = SaveCheckpoints(
        checkpoints, config.checkpoint_every_steps, config.on_save_error == "stop"
    )
    callbacks: list[keras.callbacks.Callback] = [
        NonfiniteSteps(config.max_nonfinite_steps, workdir if is_writer else None, name_images),
        CollapseWarning(),
        stop,
    ]
    if broken is not None:
        callbacks.append(BrokenImagesCheck(broken))
    if is_writer:
        callbacks += make_chief_callbacks()  # First, since they may add to the logs.
        callbacks += _logs(config, task, measurements, sinks, flags)
        callbacks.append(save)

    def save_first() -> None:
        # Several workers cannot save without each other; a run without a line of its log leaves nothing.
        if metrics_file.exists() and not is_multi_worker(strategy):
            save.save_before_error()

    try:
        with (
            _image_errors(broken, save_first),
            worker_errors(strategy),
            memory_errors(config),
        ):
            train(
                task,
                strategy.distribute_datasets_from_function(make_batches),
                strategy=strategy,
                epochs=config.epochs,
                steps_per_epoch=config.steps_per_epoch,
                batch_size=config.batch_size,
                callbacks=callbacks,
                log_every_steps=config.log_every_steps,
                jit_compile=config.jit_compile,
                steps_per_execution=config.steps_per_execution,
            )
            # A signal to one worker ends all.
            received = int(gather(strategy, stop.received or 0).max())
    finally:
        stop.restore_handlers()
    has_metrics = is_writer and metrics_file.exists()
    lines = read_metrics(metrics_file) if has_metrics else []
    return RunResult(
        steps=task.steps_done(),
        stop_signal=signal.Signals(received) if received else None,
        metrics=lines[-1] if lines else {},
        measured=read_measured(metrics_file) if has_metrics else [],
    )


def _logs(
    config: RunConfig,
    task: Task,
    measurements: Sequence[Measurement],
    sinks: Sequence[Callable[[int, Mapping[str, float]], None]],
    flags: str,
) -> list[keras.callbacks.Callback]:
    """Makes the callbacks of the terminal and of the log; the arguments are those of `run_training`."""
    log = RunLog(
        config.workdir,
        config.steps_per_epoch,
        config.log_every_steps,
        task.loss_bounds,
        measurements,
        sinks,
        flags,
    )
    progress = Progress(
        config.epochs, config.steps_per_epoch, config.batch_size, lambda: log.measured
    )
    return [progress, log]


@contextlib.contextmanager
def _image_errors(broken: BrokenImages | None, save_first: Callable[[], None]) -> Iterator[None]:
    """Context that raises the error of broken images where they are the reason of another error.

    Args:
        broken: count of them; None if nothing counts.
        save_first: called before an error of images leaves the context, since the weights are good.
    """
    try:
        try:
            yield
        except (tf.errors.OpError, WorkerLostError):
            if broken is not None:
                broken.check()
            raise
    except (BrokenImagesError, WrongValueError):
        save_first()
        raise
