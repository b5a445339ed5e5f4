"""Options of a training's length, batch, optimizer and learning rate, and the optimizer they describe."""

import dataclasses
import math
from typing import Any, TypeVar

import keras
from absl import logging

from pixpro_keras.cli.options.cluster_options import DeviceOptions
from pixpro_keras.cli.options.option_fields import FlagError, Options, option, option_fields
from pixpro_keras.cli.shared.command import flag_errors
from pixpro_keras.cli.shared.parsing import serialize
from pixpro_keras.optimizers import LARS, SGD, WarmupCosine, WarmupPoly, WarmupSteps
from pixpro_keras.training.history import ON_CHANGE_ACTIONS
from pixpro_keras.training.run import SAVE_ERROR_ACTIONS
from pixpro_keras.training.trackers import TRACKERS

TrainingT = TypeVar("TrainingT", bound="TrainingOptions")

# Lengths that are given in epochs or in steps.
_LENGTHS = {
    "epochs": "iterations",
    "warmup_epochs": "warmup_iterations",
    "decay_epochs": "decay_iterations",
}
# Steps of an epoch whose length nothing gives: the divisor of the whole that is nearest.
_STEPS_PER_EPOCH = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """Options of the training."""

    batch_size: int = option(1024, "Images per step, all replicas together.", above=0, is_main=True)
    accumulate_steps: int = option(
        1, "Parts into which a replica's batch is cut to save memory.", minimum=1, is_main=True
    )
    epochs: int = option(
        100, "Passes over the images, or multiples of --steps_per_epoch.", above=0, is_main=True
    )
    steps_per_epoch: int | None = option(
        None, "Steps in an epoch. Default: images / batch_size.", above=0, is_main=True
    )
    iterations: int | None = option(
        None,
        "Steps of the whole training, where a protocol counts these and not --epochs. An epoch, after which "
        "the run reports, is then --steps_per_epoch, by default some 1000 steps.",
        above=0,
    )
    base_learning_rate: float = option(
        1.0, "Peak learning rate at batch 256; see --learning_rate_scaling.", above=0, is_main=True
    )
    learning_rate_scaling: str = option(
        "linear",
        "Scaling of the peak with the batch: linear is base * batch/256; sqrt is base * 4 * "
        "sqrt(batch/1024), which serves small batches; none is base, whatever the batch.",
        choices=("linear", "sqrt", "none"),
    )
    schedule: str = option(
        "cosine",
        "Learning rate after the warm-up: cosine, to --end_learning_rate; steps, a tenth from each of "
        "--decay_epochs on; poly, (1 - t) ** 0.9.",
        choices=("cosine", "steps", "poly"),
    )
    decay_epochs: tuple[str, ...] = option(
        (), "Epochs, in ascending order, for --schedule=steps: 120,160."
    )
    decay_iterations: tuple[str, ...] = option((), "The same in steps: 18000,22000.")
    end_learning_rate: float = option(1e-6, "Learning rate of a cosine's last step.", minimum=0.0)
    warmup_epochs: float = option(
        5.0, "Epochs of linear warm-up from --warmup_fraction of the peak.", minimum=0.0
    )
    warmup_iterations: int | None = option(None, "The same in steps.", minimum=0)
    warmup_fraction: float = option(
        0.01,
        "Learning rate at the start of the warm-up, as a share of the peak.",
        minimum=0.0,
        maximum=1.0,
    )
    optimizer: str = option(
        "lars",
        "lars adapts each kernel's step to its norm, for large batches; sgd is SGD with momentum; adamw "
        "moves weights in a few hundred steps already, at a peak learning rate near 0.001.",
        choices=("lars", "sgd", "adamw"),
        is_main=True,
    )
    weight_decay: float = option(
        1e-5,
        "Weight decay: added to the gradient of kernels in lars, of all variables in sgd; of kernels and "
        "apart from the gradient in adamw, where 0.05 is usual.",
        minimum=0.0,
    )
    decay_norms: bool = option(
        True, "Apply the weight decay of sgd to batch norm's scales and offsets too."
    )
    sgd_momentum: float = option(0.9, "Momentum of SGD, in [0, 1).", minimum=0.0, below=1)
    jit_compile: bool = option(False, "XLA for the step; on one GPU or TPU, not on CPUs.")
    checkpoint_every_steps: int = option(500, "Steps between checkpoints.", minimum=1, is_main=True)
    keep_checkpoints: int = option(3, "Number of checkpoints kept.", minimum=1)
    on_save_error: str = option(
        "continue",
        "Action if a checkpoint cannot be written, as on a full disk: continue and try again at the next "
        "checkpoint, or stop. The older ones stay.",
        choices=SAVE_ERROR_ACTIONS,
    )
    max_bad_steps: int = option(
        10,
        "Steps in a row whose loss or gradients are not finite that end the run. Each of them is skipped.",
        minimum=1,
    )
    log_every_steps: int = option(10, "Steps between lines of metrics.jsonl.", minimum=1)
    dry_run: bool = option(
        False,
        "Check everything, take a few steps, print parameters, time and memory of the whole run, and leave "
        "nothing behind.",
        is_main=True,
    )
    deterministic: bool = option(
        False,
        "Repeat a run to the last bit, on the same number of devices. Slower: one operation after the "
        "other, without oneDNN, and on GPUs only deterministic kernels.",
    )
    steps_per_execution: int = option(
        1,
        "Most steps that TensorFlow takes by itself before Python is back, for TPUs and small steps. "
        "It always does where a line is logged or a checkpoint is due.",
        minimum=1,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingJobOptions(TrainingOptions, DeviceOptions):
    """Options that every command that trains has."""

    on_change: str = option(
        "stop",
        "Action if the run in --workdir was trained with other data, batch size, seed or other flags that "
        "affect the weights: stop, listing them, or continue. The model card and flags.cfg then tell which "
        "steps were trained with what.",
        choices=ON_CHANGE_ACTIONS,
    )
    tracker: str | None = option(
        None,
        "Experiment tracker that gets scalars, pictures, flags and the model card too: wandb (Weights & "
        "Biases) or mlflow, with the server, account and offline mode of its own environment variables; "
        "mlflow without MLFLOW_TRACKING_URI writes to mlflow.db in --workdir.",
        choices=TRACKERS,
        is_main=True,
    )


def resolve_lengths(options: TrainingT, num_examples: int, data_flag: str = "dataset") -> TrainingT:
    """Returns options whose lengths are all given in epochs, and `steps_per_epoch` too.

    A length on the command line goes before one of a flag file that is given in the other unit.

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
    steps_per_epoch = options.steps_per_epoch or num_examples // options.batch_size
    total = options.iterations
    if total is not None:
        if options.steps_per_epoch is None:
            divisors = (n for n in range(1, total + 1) if total % n == 0)
            steps_per_epoch = min(divisors, key=lambda n: abs(math.log(n / _STEPS_PER_EPOCH)))
        if total % steps_per_epoch:
            raise FlagError(
                f"--iterations={total}: must be a multiple of --steps_per_epoch={steps_per_epoch}"
            )
    values: dict[str, Any] = {"steps_per_epoch": steps_per_epoch}
    for in_epochs, in_steps in _LENGTHS.items():
        given = getattr(options, in_steps)
        if given is None or given == ():
            continue
        with flag_errors(options, in_steps):
            steps = [int(x) for x in (given if isinstance(given, tuple) else [given])]
        epochs = getattr(options, in_epochs)
        epochs = epochs if isinstance(epochs, tuple) else (epochs,)
        if (
            options.is_given(in_epochs)
            and [round(float(x) * steps_per_epoch) for x in epochs] != steps
        ):
            both = " ".join(serialize(options, in_epochs, in_steps))
            raise FlagError(
                f"{both}: these differ at {steps_per_epoch} steps in an epoch; one of them is enough"
            )
        exact = [step / steps_per_epoch for step in steps]
        values[in_epochs] = (
            tuple(f"{x:.10g}" for x in exact) if isinstance(given, tuple) else exact[0]
        )
    if "epochs" in values:
        values["epochs"] = int(values["epochs"])
    return options.replace(**values)


def _prefer_command_line(options: TrainingT) -> TrainingT:
    """Options without the lengths of flag files that the command line gives in the other unit."""
    direct = options.given - options.from_files
    dropped = {
        theirs
        for pair in _LENGTHS.items()
        for ours, theirs in (pair, pair[::-1])
        if ours in direct and theirs in options.from_files
    }
    for name in sorted(dropped):
        logging.info("%s of the flag file gives way to the command line", *serialize(options, name))
    fields = {
        field.name: field.default for field in option_fields(type(options)) if field.name in dropped
    }
    return options.replace(
        **fields, given=options.given - dropped, from_files=options.from_files - dropped
    )


def peak_learning_rate(options: TrainingOptions) -> float:
    """Returns the learning rate after the warm-up."""
    if options.learning_rate_scaling == "none":
        return options.base_learning_rate
    if options.learning_rate_scaling == "sqrt":
        return options.base_learning_rate * 4 * (options.batch_size / 1024) ** 0.5
    return options.base_learning_rate * options.batch_size / 256


def build_schedule(options: TrainingOptions) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate by step.

    Args:
        options: resolved.
    """
    steps_per_epoch = options.steps_per_epoch or 1
    total_steps = options.epochs * steps_per_epoch
    arguments: dict[str, Any] = {
        "peak": peak_learning_rate(options),
        "total_steps": total_steps,
        "warmup_steps": min(round(options.warmup_epochs * steps_per_epoch), total_steps),
        "warmup_fraction": options.warmup_fraction,
    }
    with flag_errors(options, "schedule", "decay_epochs"):
        if options.schedule == "steps":
            boundaries = [round(float(epoch) * steps_per_epoch) for epoch in options.decay_epochs]
            return WarmupSteps(boundaries=boundaries, **arguments)
        if options.decay_epochs:
            raise ValueError("only --schedule=steps has epochs at which it decays")
        if options.schedule == "poly":
            return WarmupPoly(**arguments)
        return WarmupCosine(end=options.end_learning_rate, **arguments)


def build_optimizer(options: TrainingOptions) -> keras.optimizers.Optimizer:
    """Returns the optimizer, whose learning rate follows the schedule.

    Args:
        options: resolved.

    Raises:
        FlagError: if AdamW would move each weight by a tenth or more a step.
    """
    schedule = build_schedule(options)
    momentum, l2_decay = options.sgd_momentum, options.weight_decay
    if options.optimizer == "lars":
        return LARS(schedule, momentum, l2_decay=l2_decay)
    if options.optimizer == "adamw":
        if (peak := peak_learning_rate(options)) >= 0.1:
            raise FlagError(
                f"--optimizer=adamw --base_learning_rate={options.base_learning_rate}: a peak of {peak:g} "
                "suits lars and sgd; that of adamw is near 0.001"
            )
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=l2_decay)
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        return optimizer
    return SGD(schedule, momentum, l2_decay=l2_decay, decay_norms=options.decay_norms)
