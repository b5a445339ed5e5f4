"""A command that trains: from its options to `pixpro_keras.training.run`."""

import os
import pathlib
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

import tensorflow as tf
from absl import logging

from pixpro_keras.cli.options.cluster_options import make_devices
from pixpro_keras.cli.options.training_options import TrainingJobOptions
from pixpro_keras.cli.shared import command, parsing
from pixpro_keras.cli.shared.command import flag_errors
from pixpro_keras.task import Task
from pixpro_keras.training import run
from pixpro_keras.training.checkpoints import Checkpoints
from pixpro_keras.training.loop import check_steps_per_execution
from pixpro_keras.training.strategy import replica_batch_size
from pixpro_keras.training.workers import is_chief

OptionsT = TypeVar("OptionsT", bound=TrainingJobOptions)


def main(
    cls: type[OptionsT], function: Callable[[OptionsT], run.RunResult], description: str
) -> NoReturn:
    """Runs a command that trains and ends the process.

    Args:
        cls: class of the command's options.
        function: the command.
        description: docstring of the command's module, for `--help`.
    """

    def train(options: OptionsT) -> int:
        if options.deterministic:
            _leave_onednn()
        return function(options).exit_code

    command.run(cls, train, description)


def start_devices(options: TrainingJobOptions) -> tuple[tf.distribute.Strategy, int]:
    """Returns the strategy that the options name, and the images that each replica takes per step.

    Raises:
        FlagError: if there are no such devices, or steps or batch do not go with them.
    """
    strategy = make_devices(options, deterministic=options.deterministic)
    with flag_errors(options, "steps_per_execution"):
        check_steps_per_execution(
            options.steps_per_execution,
            log_every_steps=options.log_every_steps,
            checkpoint_every_steps=options.checkpoint_every_steps,
        )
    with flag_errors(options, "batch_size"):
        share = replica_batch_size(strategy, options.batch_size, options.accumulate_steps)
    return strategy, share


def run_config(options: TrainingJobOptions, workdir: pathlib.Path) -> run.RunConfig:
    """Returns the configuration of the run.

    Args:
        options: resolved.
        workdir: the run's directory.
    """
    return run.RunConfig(
        workdir,
        epochs=options.epochs,
        steps_per_epoch=options.steps_per_epoch or 1,
        batch_size=options.batch_size,
        checkpoint_every_steps=options.checkpoint_every_steps,
        keep_checkpoints=options.keep_checkpoints,
        on_save_error=options.on_save_error,
        max_nonfinite_steps=options.max_bad_steps,
        log_every_steps=options.log_every_steps,
        steps_per_execution=options.steps_per_execution,
        jit_compile=options.jit_compile,
        precision=options.precision,
        accumulate_steps=options.accumulate_steps,
    )


def open_checkpoints(
    options: TrainingJobOptions,
    config: run.RunConfig,
    strategy: tf.distribute.Strategy,
    task: Task,
    identity: dict,
) -> tuple[Checkpoints, int]:
    """Continues from the newest checkpoint, if there is one, and writes `flags.cfg`.

    Args:
        options: resolved.
        config: of the run.
        strategy: devices of the run.
        task: compiled, its optimizer built; its weights become those of the newest checkpoint.
        identity: what makes two runs' weights interchangeable.

    Returns:
        The checkpoints, and the step from which the run goes on.
    """
    workdir = pathlib.Path(config.workdir)
    with flag_errors(options, "steps_per_execution"):
        try:
            opened = run.open_checkpoints(task, config, identity, strategy)
        except OSError:
            with flag_errors(options, "workdir"):
                raise
    if is_chief(strategy):
        parsing.write_flags(options, workdir)
    return opened


def run_training(
    task: Task,
    make_batches: Callable[[tf.distribute.InputContext], tf.data.Dataset],
    config: run.RunConfig,
    checkpoints: Checkpoints,
    strategy: tf.distribute.Strategy,
    **arguments,
) -> run.RunResult:
    """Trains as `training.run.run_training` does, whose arguments it takes; prints an early end."""
    result = run.run_training(task, make_batches, config, checkpoints, strategy, **arguments)
    if result.stop_signal is not None:
        print(
            f"Stopped after {result.steps} of {config.total_steps} steps; the checkpoint is in "
            f"{config.workdir}. The same command continues."
        )
    return result


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
