"""Commands that train: start of a job, with its devices and its directory, from its options."""

import contextlib
import dataclasses
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import keras
import tensorflow as tf
from absl import logging

from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.cluster_options import make_devices
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.option_fields import FlagError, option_fields
from pixpro_keras.cli.options.run_options import resolve_precision
from pixpro_keras.cli.options.training_options import TrainingJobOptions, check_optimizer
from pixpro_keras.cli.shared import command, run_recipe
from pixpro_keras.data.sources import iterate_images, split_specification
from pixpro_keras.training.run_config import RunResult
from pixpro_keras.training.strategy import replica_batch_size
from pixpro_keras.training.workdir import RunLock, open_workdir
from pixpro_keras.training.workers import is_chief

OptionsT = TypeVar("OptionsT", bound=TrainingJobOptions)


def main(
    cls: type[OptionsT], function: Callable[[OptionsT], RunResult], description: str
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


@dataclasses.dataclass(frozen=True)
class StartedJob:
    """A job that has its devices and its directory.

    Attributes:
        workdir: the run's directory, which is this job's alone.
        strategy: devices of the run.
        replica_batch_size: images that each replica takes per step.
        closing: contexts that end with the job.
    """

    workdir: pathlib.Path
    strategy: tf.distribute.Strategy
    replica_batch_size: int
    closing: contextlib.ExitStack


@contextlib.contextmanager
def start(options: TrainingJobOptions) -> Iterator[StartedJob]:
    """Context of a job: sets precision and seed, and makes its devices and its directory.

    See `training.open_workdir`.

    Raises:
        FlagError: if there are no such devices, they do not support the batch or XLA, the directory
            contains the images or another run, or flags of the optimizer do not go together.
    """
    check_optimizer(options)
    _refuse_image_folder(options)
    keras.mixed_precision.set_global_policy(options.precision)
    keras.utils.set_random_seed(options.seed)
    strategy = make_devices(options, deterministic=options.deterministic)
    num_replicas = strategy.num_replicas_in_sync
    if (
        options.jit_compile
        and num_replicas > 1
        and not isinstance(strategy, tf.distribute.TPUStrategy)
    ):
        raise FlagError(
            f"--jit_compile: XLA compiles the step of one device, and there are {num_replicas} replicas; "
            "--strategy=one_device takes one of them"
        )
    with flag_errors(options, "batch_size"):
        share = replica_batch_size(strategy, options.batch_size, options.accumulate_steps)
    with contextlib.ExitStack() as stack:
        place = options.workdir
        with flag_errors(options, "workdir"):
            if options.dry_run:
                if is_chief(strategy):
                    check_place(place)
                place = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "run")
            workdir = stack.enter_context(open_workdir(place, strategy))
        yield StartedJob(workdir, strategy, share, stack)


def started(
    train: Callable[[OptionsT, StartedJob], RunResult],
) -> Callable[[OptionsT], RunResult]:
    """Returns a function of options that resolves their precision, starts the job and trains it."""

    def run_job(options: OptionsT) -> RunResult:
        options = resolve_precision(options)
        with start(options) as job:
            return train(options, job)

    return run_job


def _refuse_image_folder(options: TrainingJobOptions) -> None:
    """Raises `FlagError` for a folder of the images as workdir: pictures of the run would become images."""
    workdir = os.path.realpath(os.path.expanduser(options.workdir))
    for field in option_fields(type(options)):
        value = getattr(options, field.name) if field.name.endswith("dataset") else None
        for part in split_specification(value or ""):
            place = run_recipe.place_on_disk(part)
            if place is None:
                continue
            path = os.path.realpath(place)
            is_inside = os.path.isdir(path) and os.path.commonpath([path, workdir]) == path
            if is_inside and (path == workdir or _holds_images(workdir)):
                raise FlagError(
                    f"--workdir={options.workdir}: holds the images of --{field.name}={value}; a new folder "
                    "inside of it may be one"
                )


def _holds_images(folder: str) -> bool:
    """Returns True if images are in a folder that is not of a run, whose pictures are none of the data."""
    if not os.path.isdir(folder) or os.path.exists(os.path.join(folder, parsing.FLAGS_FILE)):
        return False
    return next(iterate_images(os.fsencode(folder)), None) is not None


def check_place(path: str) -> None:
    """Checks that a run could create its directory at a path. Nothing is created.

    Raises:
        WorkdirInUseError: if another run is going on there.
        OSError: if it could not be written.
    """
    workdir = pathlib.Path(path).expanduser().absolute()
    there = next(one for one in (workdir, *workdir.parents) if one.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise OSError(f"{there} is not a writable folder")
    if there == workdir:
        lock = RunLock(workdir)
        lock.acquire()
        lock.release()


def _leave_onednn() -> None:
    """Restarts the process without oneDNN, whose multi-threaded sums are not deterministic.

    TensorFlow reads the setting on import, before flags are parsed.
    """
    name = "TF_ENABLE_ONEDNN_OPTS"
    if os.environ.get(name) != "0":
        os.environ[name] = "0"
        logging.info("--deterministic: restarting without oneDNN")
        sys.stdout.flush()
        os.execv(sys.executable, sys.orig_argv)
