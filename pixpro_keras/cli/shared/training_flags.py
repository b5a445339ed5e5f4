"""Flags of a training's length, batch, optimizer and learning rate, and the optimizer they describe."""

import math

import keras
from absl import flags

from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame, must_be_positive
from pixpro_keras.optimizers import LARS, SGD, WarmupCosine, WarmupPoly, WarmupSteps

flags.DEFINE_integer("batch_size", 1024, "Images per step, all replicas together.")
flags.DEFINE_integer(
    "accumulate_steps", 1, "Parts into which a replica's batch is cut to save memory.", 1
)
flags.DEFINE_integer("epochs", 100, "Passes over the images, or multiples of --steps_per_epoch.")
flags.DEFINE_integer("steps_per_epoch", None, "Steps in an epoch. Default: images / batch_size.")
flags.DEFINE_integer(
    "iterations",
    None,
    "Steps of the whole training, where a protocol counts these and not --epochs. An epoch, after which "
    "the run reports, is then --steps_per_epoch, by default some 1000 steps.",
)
flags.DEFINE_float(
    "base_learning_rate", 1.0, "Peak learning rate at batch 256; see --learning_rate_scaling."
)
flags.DEFINE_enum(
    "learning_rate_scaling",
    "linear",
    ["linear", "sqrt", "none"],
    "How the peak follows the batch: linear is base * batch/256; sqrt is base * 4 * "
    "sqrt(batch/1024), which serves small batches; none is base, whatever the batch.",
)
flags.DEFINE_enum(
    "schedule",
    "cosine",
    ["cosine", "steps", "poly"],
    "Learning rate after the warm-up: cosine, to --end_learning_rate; steps, a tenth from each of "
    "--decay_epochs on; poly, (1 - t) ** 0.9.",
)
flags.DEFINE_list("decay_epochs", [], "Epochs, in ascending order, for --schedule=steps: 120,160.")
flags.DEFINE_list("decay_iterations", [], "The same in steps: 18000,22000.")
flags.DEFINE_float("end_learning_rate", 1e-6, "Learning rate of a cosine's last step.", 0.0)
flags.DEFINE_float(
    "warmup_epochs", 5, "Epochs of linear warm-up from --warmup_fraction of the peak.", 0.0
)
flags.DEFINE_integer("warmup_iterations", None, "The same in steps.", 0)
flags.DEFINE_float(
    "warmup_fraction", 0.01, "Where the warm-up starts, as a share of the peak.", 0.0, 1.0
)
flags.DEFINE_enum(
    "optimizer",
    "lars",
    ["lars", "sgd"],
    "lars adapts each kernel's step to its norm, for large batches; sgd is SGD with momentum.",
)
flags.DEFINE_float(
    "weight_decay",
    1e-5,
    "Weight decay, added to the gradient: of kernels in lars, of all variables in sgd.",
    0.0,
)
flags.DEFINE_boolean(
    "decay_norms",
    True,
    "Whether the weight decay of sgd is for batch norm's scales and offsets too.",
)
flags.DEFINE_float("sgd_momentum", 0.9, "Momentum of SGD, in [0, 1).", 0.0)
flags.DEFINE_boolean("jit_compile", False, "XLA for the step; on one GPU or TPU, not on CPUs.")
must_be_positive("batch_size", "epochs", "steps_per_epoch", "iterations", "base_learning_rate")
flags.register_validator("sgd_momentum", lambda value: value < 1, "must be below 1")


# What may be said in epochs or in steps.
_LENGTHS = {
    "epochs": "iterations",
    "warmup_epochs": "warmup_iterations",
    "decay_epochs": "decay_iterations",
}
# Where nothing says how long an epoch is, the one nearest to this that divides the whole.
_STEPS_PER_EPOCH = 1000


def resolve_lengths(steps_per_epoch: int) -> int:
    """Steps in an epoch. What `--iterations` and the like say is from now on said in epochs, too.

    Args:
        steps_per_epoch: in a pass over the images, or what `--steps_per_epoch` says.

    Raises:
        FlagError: if flags contradict each other.
    """
    total = FLAGS.iterations
    if total is not None:
        if FLAGS.steps_per_epoch is None:
            divisors = (n for n in range(1, total + 1) if total % n == 0)
            steps_per_epoch = min(divisors, key=lambda n: abs(math.log(n / _STEPS_PER_EPOCH)))
        if total % steps_per_epoch:
            raise FlagError(
                f"--iterations={total}: must be a multiple of --steps_per_epoch={steps_per_epoch}"
            )
    for in_epochs, in_steps in _LENGTHS.items():
        said = FLAGS[in_steps].value
        if said is None or said == []:
            continue
        with blame(in_steps):
            steps = [int(x) for x in (said if isinstance(said, list) else [said])]
        flag = FLAGS[in_epochs]
        epochs: list = flag.value if isinstance(flag.value, list) else [flag.value]
        if flag.present and [round(float(x) * steps_per_epoch) for x in epochs] != steps:
            raise FlagError(
                f"{flag.serialize()} {FLAGS[in_steps].serialize()}: these differ at "
                f"{steps_per_epoch} steps in an epoch; one of them is enough"
            )
        exact = [step / steps_per_epoch for step in steps]
        flag.value = [f"{x:.10g}" for x in exact] if isinstance(said, list) else exact[0]
    FLAGS["epochs"].value = int(FLAGS.epochs)
    return steps_per_epoch


def peak_learning_rate() -> float:
    """Learning rate after the warm-up."""
    if FLAGS.learning_rate_scaling == "none":
        return FLAGS.base_learning_rate
    if FLAGS.learning_rate_scaling == "sqrt":
        return FLAGS.base_learning_rate * 4 * (FLAGS.batch_size / 1024) ** 0.5
    return FLAGS.base_learning_rate * FLAGS.batch_size / 256


def build_schedule(steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Learning rate by step."""
    total_steps = FLAGS.epochs * steps_per_epoch
    arguments = {
        "peak": peak_learning_rate(),
        "total_steps": total_steps,
        "warmup_steps": min(round(FLAGS.warmup_epochs * steps_per_epoch), total_steps),
        "warmup_fraction": FLAGS.warmup_fraction,
    }
    with blame("schedule", "decay_epochs"):
        if FLAGS.schedule == "steps":
            boundaries = [round(float(epoch) * steps_per_epoch) for epoch in FLAGS.decay_epochs]
            return WarmupSteps(boundaries=boundaries, **arguments)
        if FLAGS.decay_epochs:
            raise ValueError("only --schedule=steps has epochs at which it decays")
        if FLAGS.schedule == "poly":
            return WarmupPoly(**arguments)
        return WarmupCosine(end=FLAGS.end_learning_rate, **arguments)


def build_optimizer(steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer, whose learning rate follows the schedule.

    Args:
        steps_per_epoch: optimizer steps in an epoch.
    """
    schedule = build_schedule(steps_per_epoch)
    momentum, l2_decay = FLAGS.sgd_momentum, FLAGS.weight_decay
    if FLAGS.optimizer == "lars":
        return LARS(schedule, momentum, l2_decay=l2_decay)
    return SGD(schedule, momentum, l2_decay=l2_decay, decay_norms=FLAGS.decay_norms)
