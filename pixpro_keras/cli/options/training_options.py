"""Options of a training's length, batch, optimizer and learning rate, and the optimizer they describe."""

import dataclasses
import itertools
import math
from typing import Any, TypeVar

import keras
from absl import logging

from pixpro_keras.cli.options.cluster_options import DeviceOptions
from pixpro_keras.cli.options.flag_errors import flag_errors, refuse_unused
from pixpro_keras.cli.options.option_fields import (
    FlagError,
    Options,
    are_positive,
    option,
    option_fields,
)
from pixpro_keras.cli.options.parsing import serialize
from pixpro_keras.optimizers import LARS, SGD, AdamW, WarmupCosine, WarmupPoly, WarmupSteps
from pixpro_keras.task import Task
from pixpro_keras.training.history import ON_CHANGE_ACTIONS
from pixpro_keras.training.run_config import SAVE_ERROR_ACTIONS
from pixpro_keras.training.trackers import TRACKERS

TrainingT = TypeVar("TrainingT", bound="TrainingOptions")

# Lengths that are given in epochs or in steps.
_LENGTHS = {
    "epochs": "iterations",
    "warmup_epochs": "warmup_iterations",
    "decay_epochs": "decay_iterations",
}
# Approximate steps per epoch if no flag gives them; the nearest divisor of the total is used.
_STEPS_PER_EPOCH = 1000


def _are_decays(values: tuple[str, ...]) -> bool:
    """True for positive numbers in ascending order."""
    return are_positive(values) and all(
        float(one) < float(after) for one, after in itertools.pairwise(values)
    )


def _are_decay_steps(values: tuple[str, ...]) -> bool:
    """True for positive whole numbers in ascending order."""
    return all(value.isdecimal() for value in values) and _are_decays(values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """Options of the training."""

    batch_size: int = option(1024, "Images per step, over all replicas.", above=0, is_main=True)
    accumulate_steps: int = option(
        1,
        "Gradient accumulation: number of parts into which a replica's batch is divided to save memory. "
        "Batch norm, and losses that compare the images of a batch, use one part at a time.",
        minimum=1,
        is_main=True,
    )
    epochs: int = option(
        100, "Passes over the images, or multiples of --steps_per_epoch.", above=0, is_main=True
    )
    steps_per_epoch: int | None = option(
        None, "Steps in an epoch. Default: images / batch_size.", above=0, is_main=True
    )
    iterations: int | None = option(
        None,
        "Steps of the whole training, for protocols that count steps; replaces --epochs. An epoch, after "
        "which the run reports, then has --steps_per_epoch steps, by default about 1000.",
        above=0,
    )
    base_learning_rate: float = option(
        1.0, "Peak learning rate at batch 256; see --learning_rate_scaling.", above=0, is_main=True
    )
    learning_rate_scaling: str = option(
        "linear",
        "Scaling of the peak learning rate with the batch size: linear, base * batch/256; sqrt, base * 4 "
        "* sqrt(batch/1024), which suits small batches; none, base for any batch size.",
        choices=("linear", "sqrt", "none"),
    )
    schedule: str = option(
        "cosine",
        "Learning rate after the warm-up: cosine, down to --end_learning_rate; steps, divided by 10 at "
        "each of --decay_epochs; poly, (1 - t) ** 0.9.",
        choices=("cosine", "steps", "poly"),
    )
    decay_epochs: tuple[str, ...] = option(
        (),
        "Epochs, in ascending order, for --schedule=steps: 120,160.",
        check=_are_decays,
        must="be positive, finite numbers of epochs in ascending order, such as 120,160",
    )
    decay_iterations: tuple[str, ...] = option(
        (),
        "As --decay_epochs, in steps: 18000,22000.",
        check=_are_decay_steps,
        must="be positive numbers of steps in ascending order, such as 18000,22000",
    )
    end_learning_rate: float = option(
        1e-6, "Learning rate in the last step of a cosine schedule.", minimum=0.0
    )
    warmup_epochs: float = option(
        5.0,
        "Epochs of linear warm-up from --warmup_fraction of the peak; at most the whole run. With "
        "--iterations and without --steps_per_epoch, the default counts epochs of 1000 steps.",
        minimum=0.0,
    )
    warmup_iterations: int | None = option(None, "As --warmup_epochs, in steps.", minimum=0)
    warmup_fraction: float = option(
        0.01,
        "Learning rate at the start of the warm-up, as a fraction of the peak.",
        minimum=0.0,
        maximum=1.0,
    )
    optimizer: str = option(
        "lars",
        "lars scales each kernel's step to its norm, for large batches; sgd is SGD with momentum; adamw, "
        "with a peak learning rate near 0.001, makes progress within a few hundred steps.",
        choices=("lars", "sgd", "adamw"),
        is_main=True,
    )
    weight_decay: float = option(
        1e-5,
        "Weight decay. lars adds it to the gradient of kernels, sgd to that of all variables. In adamw it"
        " applies to kernels, is decoupled from the gradient, and is usually 0.05.",
        minimum=0.0,
    )
    decay_norms: bool = option(
        True, "Apply the weight decay of sgd to the scales and offsets of batch norm, too."
    )
    sgd_momentum: float = option(0.9, "Momentum of SGD, in [0, 1).", minimum=0.0, below=1)
    jit_compile: bool = option(
        False, "Compile the step with XLA; for one GPU or TPU, not for CPUs."
    )
    checkpoint_every_steps: int = option(500, "Steps between checkpoints.", minimum=1, is_main=True)
    keep_checkpoints: int = option(3, "Number of checkpoints kept.", minimum=1)
    on_save_error: str = option(
        "continue",
        "Action if a checkpoint cannot be written, for example on a full disk: continue, and try again at"
        " the next checkpoint, or stop. Older checkpoints are kept.",
        choices=SAVE_ERROR_ACTIONS,
    )
    max_bad_steps: int = option(
        10,
        "Consecutive steps with a loss or gradients that are not finite after which the run ends. Each of"
        " them is skipped.",
        minimum=1,
    )
    log_every_steps: int = option(10, "Steps between lines of metrics.jsonl.", minimum=1)
    dry_run: bool = option(
        False,
        "Check all inputs, run a few steps, print parameters, time and memory of the whole run, and write"
        " nothing.",
        is_main=True,
    )
    deterministic: bool = option(
        False,
        "Make a run repeatable to the last bit on the same number of devices. Slower: one operation at a "
        "time, without oneDNN, and on GPUs only deterministic kernels.",
    )
    steps_per_execution: int = option(
        1,
        "Largest number of steps in one call of TensorFlow, for TPUs and small steps. A call always ends "
        "where a log line or a checkpoint is due.",
        minimum=1,
    )

    # Of options that `resolve_lengths` returned.

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * (self.steps_per_epoch or 1)

    @property
    def warmup_steps(self) -> int:
        """Steps of the warm-up, which is shortened to the run where it is longer."""
        return min(round(self.warmup_epochs * (self.steps_per_epoch or 1)), self.total_steps)

    @property
    def peak_learning_rate(self) -> float:
        """Learning rate after the warm-up."""
        if self.learning_rate_scaling == "none":
            return self.base_learning_rate
        if self.learning_rate_scaling == "sqrt":
            return self.base_learning_rate * 4 * (self.batch_size / 1024) ** 0.5
        return self.base_learning_rate * self.batch_size / 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingJobOptions(TrainingOptions, DeviceOptions):
    """Options that every command that trains has."""

    on_change: str = option(
        "stop",
        "Action if the run in --workdir was trained with another data set, batch size, seed or other "
        "flags that affect the weights: stop, listing the differences, or continue. The model card and "
        "flags.cfg then list which steps were trained with which flags.",
        choices=ON_CHANGE_ACTIONS,
    )
    tracker: str | None = option(
        None,
        "Experiment tracker that also receives scalars, pictures, flags and the model card: wandb "
        "(Weights & Biases) or mlflow. Its own environment variables set server, account and offline "
        "mode; mlflow without MLFLOW_TRACKING_URI writes to mlflow.db in --workdir.",
        choices=TRACKERS,
        is_main=True,
    )


def resolve_lengths(options: TrainingT, num_examples: int, data_flag: str = "dataset") -> TrainingT:
    """Returns options whose lengths are all given in epochs, and `steps_per_epoch` too.

    A length on the command line overrides one of a flag file in the other unit.

    Args:
        options: options of the training.
        num_examples: number of training images.
        data_flag: flag that names them.

    Raises:
        FlagError: if there are fewer images than a batch, or flags contradict each other.
    """
    if num_examples < options.batch_size:
        data = getattr(options, data_flag)
        raise FlagError(
            f"--batch_size={options.batch_size}: --{data_flag}={data} has only {num_examples} images"
        )
    options = _prefer_command_line(options)
    steps_per_epoch, total = options.steps_per_epoch, options.iterations
    if total is None:
        steps_per_epoch = steps_per_epoch or num_examples // options.batch_size
    elif steps_per_epoch is None:
        divisors = (n for n in range(1, total + 1) if total % n == 0)
        steps_per_epoch = min(divisors, key=lambda n: abs(math.log(n / _STEPS_PER_EPOCH)))
    elif total % steps_per_epoch:
        raise FlagError(
            f"--iterations={total}: must be a multiple of --steps_per_epoch={steps_per_epoch}"
        )
    values: dict[str, Any] = {"steps_per_epoch": steps_per_epoch}
    for in_epochs, in_steps in _LENGTHS.items():
        if getattr(options, in_steps) not in (None, ()):
            values[in_epochs] = _to_epochs(options, in_epochs, in_steps, steps_per_epoch)
    is_default = not options.is_given("warmup_epochs") and options.warmup_iterations is None
    if is_default and total is not None and options.steps_per_epoch is None:
        # The same number of steps for any total, so that a longer run continues a shorter one.
        values["warmup_epochs"] = options.warmup_epochs * _STEPS_PER_EPOCH / steps_per_epoch
    return options.replace(**values)


def _to_epochs(
    options: TrainingOptions, in_epochs: str, in_steps: str, steps_per_epoch: int
) -> Any:
    """Value for the option `in_epochs` from `in_steps`. Raises `FlagError` if both are given and differ."""
    given, epochs = getattr(options, in_steps), getattr(options, in_epochs)
    is_list = isinstance(given, tuple)
    steps = [int(step) for step in given] if is_list else [given]
    same = [round(float(x) * steps_per_epoch) for x in (epochs if is_list else [epochs])]
    if options.is_given(in_epochs) and same != steps:
        both = " ".join(serialize(options, in_epochs, in_steps))
        raise FlagError(
            f"{both}: these differ at {steps_per_epoch} steps in an epoch; give one of them"
        )
    if is_list:
        return tuple(f"{step / steps_per_epoch:.10g}" for step in steps)
    # A run has whole epochs, a warm-up need not.
    return given // steps_per_epoch if in_epochs == "epochs" else given / steps_per_epoch


def _prefer_command_line(options: TrainingT) -> TrainingT:
    """Drops lengths of a flag file that the command line gives in the other unit (epochs or steps)."""
    dropped = {
        theirs
        for pair in _LENGTHS.items()
        for ours, theirs in (pair, pair[::-1])
        if ours in options.on_command_line and theirs in options.from_files
    }
    for name in sorted(dropped):
        logging.info("The command line replaces %s of the flag file", *serialize(options, name))
    fields = {
        field.name: field.default for field in option_fields(type(options)) if field.name in dropped
    }
    return options.replace(
        **fields, given=options.given - dropped, from_files=options.from_files - dropped
    )


def build_schedule(options: TrainingOptions) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate by step, of options with resolved lengths."""
    arguments: dict[str, Any] = {
        "peak": options.peak_learning_rate,
        "total_steps": options.total_steps,
        "warmup_steps": options.warmup_steps,
        "warmup_fraction": options.warmup_fraction,
    }
    with flag_errors(options, "schedule", "decay_epochs", "decay_iterations"):
        if options.schedule == "steps":
            steps_per_epoch = options.steps_per_epoch or 1
            boundaries = [round(float(epoch) * steps_per_epoch) for epoch in options.decay_epochs]
            if boundaries and max(boundaries) >= options.total_steps:
                _warn_of_late_decays(options)
            return WarmupSteps(boundaries=boundaries, **arguments)
        if options.schedule == "poly":
            return WarmupPoly(**arguments)
        return WarmupCosine(end=options.end_learning_rate, **arguments)


def _warn_of_late_decays(options: TrainingOptions) -> None:
    """Names the decays, in the unit that the user gave, of which some are after the end of the run."""
    name, end = "decay_epochs", f"{options.epochs} epochs"
    if options.decay_iterations:
        name, end = "decay_iterations", f"{options.total_steps} iterations"
    logging.warning(
        "%s: the run ends after %s, so that the learning rate does not decay at all of them",
        *serialize(options, name),
        end,
    )


def check_optimizer(options: TrainingOptions) -> None:
    """Checks the flags of the optimizer and the schedule that need no data.

    Raises:
        FlagError: if AdamW would move each weight by a tenth or more a step, or a given flag has no effect.
    """
    unused = {}
    if options.optimizer == "adamw":
        unused["sgd_momentum"] = "--optimizer=adamw has no momentum"
    if options.optimizer != "sgd":
        unused["decay_norms"] = "only --optimizer=sgd decays them"
    if options.schedule != "cosine":
        unused["end_learning_rate"] = "only --schedule=cosine ends at it"
    refuse_unused(options, unused)
    for name in ("decay_epochs", "decay_iterations"):
        if getattr(options, name) and options.schedule != "steps":
            raise FlagError(
                f"{' '.join(serialize(options, name))}: only --schedule=steps has them, not "
                f"--schedule={options.schedule}"
            )
    if options.optimizer == "adamw" and options.peak_learning_rate >= 0.1:
        raise FlagError(
            f"--optimizer=adamw --base_learning_rate={options.base_learning_rate}: a peak of "
            f"{options.peak_learning_rate:g} suits lars and sgd; that of adamw is near 0.001"
        )


def build_optimizer(options: TrainingOptions) -> keras.optimizers.Optimizer:
    """Returns the optimizer, whose learning rate follows the schedule, of options with resolved lengths.

    Raises:
        FlagError: if a flag of the warm-up is given and has no effect.
    """
    if not options.warmup_steps:
        refuse_unused(options, {"warmup_fraction": "there is no warm-up"})
    schedule = build_schedule(options)
    momentum, l2_decay = options.sgd_momentum, options.weight_decay
    if options.optimizer == "lars":
        return LARS(schedule, momentum, l2_decay=l2_decay)
    if options.optimizer == "adamw":
        optimizer = AdamW(schedule, weight_decay=l2_decay)
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        return optimizer
    return SGD(schedule, momentum, l2_decay=l2_decay, decay_norms=options.decay_norms)


def compile_task(options: TrainingOptions, task: Task) -> None:
    """Compiles a task with the optimizer of `build_optimizer`, and builds it. In the strategy's scope."""
    task.compile(build_optimizer(options), jit_compile=options.jit_compile)
    task.optimizer.build(task.trainable_variables)
