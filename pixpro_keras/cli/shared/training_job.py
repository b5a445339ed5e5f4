"""A training run: devices, checkpoints, log, loop. Pre-training and transfer tasks share it."""

import os
import pathlib
import sys
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from absl import flags, logging

from pixpro_keras.cli.shared import cluster_flags, common_flags, run_devices, training_flags
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.task import Task
from pixpro_keras.training import callbacks as run_callbacks
from pixpro_keras.training.bad_steps import BadSteps
from pixpro_keras.training.checkpoints import Checkpoints
from pixpro_keras.training.loop import check_steps_per_execution, train
from pixpro_keras.training.strategy import is_chief, make_strategy, replica_batch_size
from pixpro_keras.training.workers import WorkerLostError, gather, share_state

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
        # In the order in which operations happen to finish, sums of three or more gradients round
        # differently, once in a few dozen runs.
        tf.config.threading.set_inter_op_parallelism_threads(1)
        if tf.config.list_physical_devices("GPU"):
            tf.config.experimental.enable_op_determinism()
    with blame("strategy"):
        strategy = make_strategy(FLAGS.strategy, cluster_flags.join_workers)
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
    checkpoints = Checkpoints(workdir / "checkpoints", task, identity, FLAGS.keep_checkpoints)
    with cluster_flags.blame_workers(strategy):
        if is_chief(strategy):
            with blame("workdir"):
                checkpoints.restore()
        share_state(strategy, task)
    first_step = task.steps_done()
    with blame("steps_per_execution"):
        check_steps_per_execution(FLAGS.steps_per_execution, first_step=first_step)
    if is_chief(strategy):
        run_devices.note(workdir, strategy, is_resumed=first_step > 0)
    if is_chief(strategy):
        common_flags.write_flags(workdir)
    return checkpoints, first_step


def run_training(
    workdir: pathlib.Path,
    strategy: tf.distribute.Strategy,
    task: Task,
    checkpoints: Checkpoints,
    make_batches: Callable[[tf.distribute.InputContext], tf.data.Dataset],
    broken: BrokenImages | None = None,
    name_images: Callable[[int], list[str]] | None = None,
    make_chief_callbacks: Callable[[], Sequence[keras.callbacks.Callback]] = tuple,
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

    Returns:
        None at the end of the training, else the exit code of the signal that ended it.
    """
    stop = run_callbacks.StopOnSignal()
    bad_steps = BadSteps(FLAGS.max_bad_steps, workdir if is_chief(strategy) else None, name_images)
    callbacks: list[keras.callbacks.Callback] = [bad_steps, run_callbacks.VitalSigns(), stop]
    if broken is not None:
        check = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: broken.check()
        )
        callbacks.append(check)
    if is_chief(strategy):
        steps_per_epoch, log_every = FLAGS.steps_per_epoch, FLAGS.log_every_steps
        callbacks += [
            run_callbacks.Progress(FLAGS.epochs, steps_per_epoch, FLAGS.batch_size),
            *make_chief_callbacks(),  # before the log, to which they may add
            run_callbacks.RunLog(workdir, steps_per_epoch, log_every, task.loss_bounds),
            run_callbacks.SaveCheckpoints(
                checkpoints, FLAGS.checkpoint_every_steps, FLAGS.on_save_error == "stop"
            ),
        ]
    try:
        with cluster_flags.blame_workers(strategy):
            train(
                task,
                strategy.distribute_datasets_from_function(make_batches),
                strategy=strategy,
                epochs=FLAGS.epochs,
                steps_per_epoch=FLAGS.steps_per_epoch,
                batch_size=FLAGS.batch_size,
                callbacks=callbacks,
                log_every_steps=FLAGS.log_every_steps,
                jit_compile=FLAGS.jit_compile,
                steps_per_execution=FLAGS.steps_per_execution,
            )
            # The signal may have reached one worker only, and has ended all.
            received = int(gather(strategy, stop.received or 0).max())
    except (tf.errors.OpError, WorkerLostError):
        if broken is not None:
            broken.check()  # the reason, if images were it
        raise
    if not received:
        return None
    done = f"Stopped after {task.steps_done()} of {FLAGS.epochs * FLAGS.steps_per_epoch} steps"
    print(f"{done}; the checkpoint is in {workdir}. The same command continues.")
    return run_callbacks.exit_code_of(received)
