"""Run of a job, from its options: continued from its checkpoints, trained, and its results."""

import dataclasses
import json
import math
import pathlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import tensorflow as tf

from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.option_fields import FlagError, option_fields
from pixpro_keras.cli.options.training_options import TrainingJobOptions
from pixpro_keras.cli.shared import run_recipe
from pixpro_keras.cli.shared.header import header_text, print_header
from pixpro_keras.cli.shared.result_files import shown
from pixpro_keras.cli.shared.training_job import StartedJob
from pixpro_keras.data.broken_images import AnySource
from pixpro_keras.task import Task
from pixpro_keras.training import run
from pixpro_keras.training.checkpoints import CheckpointError, Checkpoints
from pixpro_keras.training.estimate import estimate_run
from pixpro_keras.training.history import (
    FewerStepsError,
    RunChangedError,
    find_differences,
    read_history,
)
from pixpro_keras.training.run_config import RunConfig, RunResult
from pixpro_keras.training.trackers import Tracker, track_run
from pixpro_keras.training.workers import chief_alone, gather, is_chief, worker_errors
from pixpro_keras.utils.markdown import markdown_table

WrittenT = TypeVar("WrittenT")
DRY_RUN = "This was a dry run: nothing was written."


@dataclasses.dataclass(frozen=True)
class OpenedRun:
    """A run that is ready to train, from its newest checkpoint on.

    Attributes:
        job: devices and directory.
        options: resolved.
        task: compiled, with the weights of the checkpoint.
        config: configuration of the run.
        checkpoints: checkpoints of the run.
        first_step: step from which it continues.
    """

    job: StartedJob
    options: TrainingJobOptions
    task: Task
    config: RunConfig
    checkpoints: Checkpoints
    first_step: int


def open_run(
    job: StartedJob,
    options: TrainingJobOptions,
    task: Task,
    identity: dict,
    images: AnySource,
    *,
    header: Mapping[str, str],
    data: str,
    num_images: int,
) -> OpenedRun:
    """Continues from the newest checkpoint by `open_checkpoints`, and prints the header.

    Args:
        job: devices and directory.
        options: resolved.
        task: compiled, its optimizer built; its weights become those of the newest checkpoint.
        identity: properties that make two runs' weights interchangeable.
        images: training images.
        header: first lines, name -> value: method or task, and backbone.
        data: name of the training images in the header.
        num_images: number of different ones, of which `images` may repeat some.
    """
    config = run_config(options, job.workdir)
    checkpoints, first_step = open_checkpoints(
        options, config, job.strategy, task, identity, images
    )
    print_header(options, job.strategy, num_images, task=header, data=data, first_step=first_step)
    return OpenedRun(job, options, task, config, checkpoints, first_step)


def run_config(options: TrainingJobOptions, workdir: pathlib.Path) -> RunConfig:
    """Returns the configuration of the run.

    Args:
        options: resolved.
        workdir: the run's directory.
    """
    return RunConfig(
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
    config: RunConfig,
    strategy: tf.distribute.Strategy,
    task: Task,
    identity: dict,
    images: AnySource,
) -> tuple[Checkpoints, int]:
    """Continues from the newest checkpoint, if there is one, and writes `flags.cfg`.

    Args:
        options: resolved.
        config: configuration of the run.
        strategy: devices of the run.
        task: compiled, its optimizer built; its weights become those of the newest checkpoint.
        identity: properties that make two runs' weights interchangeable.
        images: training images.

    Returns:
        The checkpoints, and the step from which the run continues.

    Raises:
        FlagError: if the run has done more steps, or with other data or flags and without
            `--on_change=continue`; if its checkpoints cannot be used; if its workers have different flags or
            images.
    """
    workdir = pathlib.Path(config.workdir)
    recipe = run_recipe.recipe_of(
        options, images.num_examples, images.fingerprint, images.content_fingerprint
    )
    _compare_workers(options, strategy, images.num_examples, recipe)
    if options.dry_run:  # Only the step is read; nothing is written.
        config = dataclasses.replace(config, workdir=pathlib.Path(options.workdir).expanduser())
    try:
        opened = run.open_checkpoints(
            task,
            config,
            identity,
            strategy,
            recipe=recipe,
            on_change=options.on_change,
            read_only=options.dry_run,
        )
    except FewerStepsError:
        with flag_errors(options, "epochs" if options.iterations is None else "iterations"):
            raise
    except CheckpointError as error:
        raise FlagError(f"--workdir={options.workdir}: {error}") from error
    except (RunChangedError, OSError):
        with flag_errors(options, "workdir"):
            raise
    if is_chief(strategy) and not options.dry_run:
        periods = read_history(workdir)
        # Otherwise the run is finished and keeps its files.
        if not find_differences(periods[-1].recipe, recipe):
            comments = run_recipe.describe_periods(periods)
            parsing.write_flags(options, workdir, but=("on_change", "dry_run"), comments=comments)
    return opened


def _compare_workers(
    options: TrainingJobOptions,
    strategy: tf.distribute.Strategy,
    num_images: int,
    recipe: Mapping[str, object],
) -> None:
    """Raises `FlagError` on all workers if they would take different steps, and wait for each other."""
    names = ("precision", "epochs", "steps_per_epoch", "accumulate_steps", "log_every_steps")
    settings = {name: getattr(options, name) for name in names}
    # Paths may be other ones on each machine.
    paths_and_count = ("dataset", "weights", "num_images")
    settings |= {k: v for k, v in recipe.items() if not k.endswith(paths_and_count)}
    digest = zlib.crc32(json.dumps(settings, sort_keys=True).encode())
    with worker_errors(strategy):
        counts = [int(count) for count in gather(strategy, num_images)]
        digests = gather(strategy, digest)
    why = f"--strategy={options.strategy}: the workers have different"
    if len({*counts}) > 1:
        raise FlagError(
            f"{why} numbers of training images, {', '.join(map(str, counts))}; all must have the same files"
        )
    if len({*digests}) > 1:
        raise FlagError(
            f"{why} flags or images, or --precision=auto found different processors; all need the "
            "same command and the same files"
        )


def run_training(
    opened: OpenedRun, make_batches: Callable[..., tf.data.Dataset], **arguments
) -> RunResult:
    """Trains by `training.run.run_training`; prints if nothing was left to train, or the run ended early.

    With `--dry_run` it takes a few steps only, and prints time and memory of the whole run. With
    `--tracker` it starts a run in the tracker, which ends with the job.

    Args:
        opened: the run.
        make_batches: function that makes a machine's batches; takes `start_step`, `input_pipeline_id` and
            `num_input_pipelines`, as `data.make_dataset` does.
        **arguments: other arguments of `training.run.run_training`.

    Raises:
        FlagError: if the tracker does not start.
    """
    job, config = opened.job, opened.config
    steps_left = config.total_steps - opened.first_step

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return make_batches(
            start_step=opened.first_step,
            input_pipeline_id=context.input_pipeline_id,
            num_input_pipelines=context.num_input_pipelines,
        )

    if opened.options.dry_run:
        return _estimate(opened, batches, steps_left)
    if is_chief(job.strategy):
        if not steps_left:
            print(
                f"The run in {config.workdir} is finished: all its {config.total_steps} steps are done "
                "and nothing is trained. Its results are written again."
            )
        arguments["flags"] = "\n".join(parsing.read_flags(job.workdir / parsing.FLAGS_FILE))
    tracker = _start_tracker(opened)
    if tracker is not None:
        arguments["sinks"] = [tracker.log]
    result = run.run_training(
        opened.task, batches, config, opened.checkpoints, job.strategy, **arguments
    )
    if result.measured:
        print(f"\nEvaluations during the training:\n\n{_measured_table(result.measured)}\n")
    if result.stop_signal is not None:
        if tracker is not None:
            tracker.is_stopped = True
        print(
            f"Stopped after {result.steps} of {config.total_steps} steps; the checkpoint is in "
            f"{config.workdir}. The same command continues."
        )
    return result


def _start_tracker(opened: OpenedRun) -> Tracker | None:
    """Starts a run in the tracker of `--tracker`, on the chief; it ends with the job."""
    options, job = opened.options, opened.job
    if options.tracker is None or not is_chief(job.strategy):
        return None
    with flag_errors(options, "tracker"):
        tracker = track_run(options.tracker, job.workdir, _settings(options))
        return job.closing.enter_context(tracker)


def _estimate(
    opened: OpenedRun,
    make_batches: Callable[[tf.distribute.InputContext], tf.data.Dataset],
    steps_left: int,
) -> RunResult:
    """Takes a few steps of a dry run; prints time and memory of the whole run."""
    strategy = opened.job.strategy
    text = "The run is finished: nothing would be trained, its results would be written again."
    if steps_left:
        estimate = estimate_run(opened.task, make_batches, opened.config, strategy)
        text = _describe_estimate(estimate, steps_left)
    if is_chief(strategy):
        print(f"{text}\n{DRY_RUN}")
    return RunResult(steps=0, is_dry_run=True)


def write_at_end(
    job: StartedJob, result: RunResult, write: Callable[[], WrittenT]
) -> WrittenT | None:
    """Writes the results of a run that is complete: on the chief, while the other workers wait.

    Args:
        job: devices and directory.
        result: result of the training.
        write: function that writes them.

    Returns:
        The result of the function; None where it is not called.
    """
    if not result.is_complete:
        return None
    with chief_alone(job.strategy) as is_writer:
        return write() if is_writer else None


def _settings(options: TrainingJobOptions) -> dict[str, object]:
    """Options that have a value, formatted for a tracker."""
    values = {field.name: getattr(options, field.name) for field in option_fields(type(options))}
    return {
        name: ",".join(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value not in (None, ())
    }


def _describe_estimate(estimate: Mapping[str, float], num_steps: int) -> str:
    minutes = math.ceil(60 * estimate["hours"])
    rows = {
        "parameters": f"{estimate['parameters']:,} trainable",
        "speed": f"{estimate['images_per_second']:.1f} images/s, measured over a few steps",
        "time": f"{minutes // 60} h {minutes % 60:02} min for {num_steps} steps, without evaluations",
        "memory": f"{estimate['memory_mib']:,.0f} MiB at its peak",
    }
    return header_text(rows)


def _measured_table(measured: Sequence[Mapping[str, float | None]]) -> str:
    names = list(dict.fromkeys(name for row in measured for name in row))
    rows = [[row.get(name) for name in names] for row in measured]
    return markdown_table(names, [[x[0], *map(shown, x[1:])] for x in rows])
