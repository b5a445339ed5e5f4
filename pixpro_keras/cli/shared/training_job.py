"""Flags of a training run, and the run that they describe: `pixpro_keras.training.run`."""

import os
import pathlib
import sys
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from absl import flags, logging

from pixpro_keras.cli.shared import cluster_flags, common_flags, training_flags
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.task import Task
from pixpro_keras.training import run
from pixpro_keras.training.callbacks.run_log import Measurement
from pixpro_keras.training.checkpoints import Checkpoints
from pixpro_keras.training.loop import check_steps_per_execution
from pixpro_keras.training.strategy import replica_batch_size
from pixpro_keras.training.workers import is_chief

flags.DEFINE_integer("checkpoint_every_steps", 500, "Steps between checkpoints.", 1)
flags.DEFINE_integer("keep_checkpoints", 3, "Number of checkpoints kept.", 1)
flags.DEFINE_enum(
    "on_save_error",
    "continue",
    ["continue", "stop"],
    "When a checkpoint cannot be written, as on a full disk: go on and try again when the next one is "
    "due, or stop. The older ones stay.",
)
flags.DEFINE_integer(
    "max_bad_steps",
    10,
    "Steps in a row whose loss or gradients are not finite that end the run. Each of them is skipped.",
    1,
)
flags.DEFINE_integer("log_every_steps", 10, "Steps between lines of metrics.jsonl.", 1)
flags.DEFINE_boolean(
    "deterministic",
    False,
    "Repeat a run to the last bit, on the same number of devices. Slower: one operation after the "
    "other, without oneDNN, and on GPUs only deterministic kernels.",
)


flags.DEFINE_integer(
    "steps_per_execution",
    1,
    "Steps that TensorFlow takes by itself before it comes back to Python, for TPUs and small steps; "
    "must divide --steps_per_epoch, --log_every_steps and --checkpoint_every_steps.",
    1,
)


def start_devices() -> tuple[tf.distribute.Strategy, int]:
    """The strategy that the flags name, and the images that each of its replicas takes per step."""
    if FLAGS.deterministic:
        _leave_onednn()
    with blame("strategy"):
        strategy = run.make_devices(
            FLAGS.strategy,
            deterministic=FLAGS.deterministic,
            make_multi_worker=cluster_flags.join_workers,
        )
    with blame("steps_per_execution"):
        check_steps_per_execution(
            FLAGS.steps_per_execution,
            log_every_steps=FLAGS.log_every_steps,
            checkpoint_every_steps=FLAGS.checkpoint_every_steps,
        )
    with blame("batch_size"):
        return strategy, replica_batch_size(strategy, FLAGS.batch_size, FLAGS.accumulate_steps)


def _leave_onednn() -> None:
    """Starts the job anew without oneDNN, whose sums over several threads are not the same twice.

    TensorFlow decides about it when it is imported, before there are flags.
    """
    name = "TF_ENABLE_ONEDNN_OPTS"
    if os.environ.get(name) != "0":
        os.environ[name] = "0"
        logging.info("--deterministic: starting anew without oneDNN")
        sys.stdout.flush()
        os.execv(sys.executable, sys.orig_argv)


def resolve_steps_per_epoch(num_examples: int, flag: str = "dataset") -> int:
    """`--steps_per_epoch`, or a pass over the images, which `flags.cfg` then states.

    Lengths that the flags give in steps are from now on those in epochs, too.

    Args:
        num_examples: number of images.
        flag: the one that names them.

    Raises:
        FlagError: if there are fewer images than a batch.
    """
    if num_examples < FLAGS.batch_size:
        raise FlagError(
            f"--batch_size={FLAGS.batch_size}: --{flag}={FLAGS[flag].value} has only {num_examples} images"
        )
    steps_per_epoch = int(FLAGS.steps_per_epoch or num_examples // FLAGS.batch_size)
    steps_per_epoch = training_flags.resolve_lengths(steps_per_epoch)
    with blame("steps_per_execution"):
        check_steps_per_execution(FLAGS.steps_per_execution, steps_per_epoch=steps_per_epoch)
    FLAGS["steps_per_epoch"].value = steps_per_epoch  # flags.cfg says what the run did
    return steps_per_epoch


def run_config(workdir: pathlib.Path) -> run.RunConfig:
    """The run that the flags describe, once its length is resolved."""
    return run.RunConfig(
        workdir,
        epochs=FLAGS.epochs,
        steps_per_epoch=FLAGS.steps_per_epoch,
        batch_size=FLAGS.batch_size,
        checkpoint_every_steps=FLAGS.checkpoint_every_steps,
        keep_checkpoints=FLAGS.keep_checkpoints,
        on_save_error=FLAGS.on_save_error,
        max_nonfinite_steps=FLAGS.max_bad_steps,
        log_every_steps=FLAGS.log_every_steps,
        steps_per_execution=FLAGS.steps_per_execution,
        jit_compile=FLAGS.jit_compile,
        precision=FLAGS.precision,
        accumulate_steps=FLAGS.accumulate_steps,
    )


def open_checkpoints(
    workdir: pathlib.Path, strategy: tf.distribute.Strategy, task: Task, identity: dict
) -> tuple[Checkpoints, int]:
    """The run's checkpoints, and the step from which it goes on; writes `flags.cfg`.

    Args:
        workdir: the run's directory.
        strategy: where it runs.
        task: compiled, its optimizer built; its weights become those of the newest checkpoint.
        identity: what makes two runs' weights interchangeable.
    """
    with blame("steps_per_execution"):
        try:
            opened = run.open_checkpoints(task, run_config(workdir), identity, strategy)
        except OSError:
            with blame("workdir"):
                raise
    if is_chief(strategy):
        common_flags.write_flags(workdir)
    return opened


def run_training(
    workdir: pathlib.Path,
    strategy: tf.distribute.Strategy,
    task: Task,
    checkpoints: Checkpoints,
    make_batches: Callable[[tf.distribute.InputContext], tf.data.Dataset],
    broken: BrokenImages | None = None,
    name_images: Callable[[int], list[str]] | None = None,
    make_chief_callbacks: Callable[[], Sequence[keras.callbacks.Callback]] = tuple,
    measurements: Sequence[Measurement] = (),
) -> int | None:
    """Trains to the last step, or until a signal ends it.

    Args:
        workdir: the run's directory.
        strategy: where it runs.
        task: compiled, its optimizer built.
        checkpoints: where to.
        make_batches: the batches of a machine, from the task's step on.
        broken: raises once too many images are; without it, one that is ends the run.
        name_images: what the images of a step are called.
        make_chief_callbacks: makes more callbacks, for the one process that writes.
        measurements: functions of the number of steps done to values by name, for the log.

    Returns:
        None at the end of the training, else the exit code of the signal that ended it.
    """
    config = run_config(workdir)
    result = run.run_training(
        task,
        make_batches,
        config,
        checkpoints,
        strategy,
        broken=broken,
        name_images=name_images,
        measurements=measurements,
        make_chief_callbacks=make_chief_callbacks,
    )
    if result.stop_signal is None:
        return None
    print(
        f"Stopped after {result.steps} of {config.total_steps} steps; the checkpoint is in {workdir}. "
        "The same command continues."
    )
    return result.exit_code
