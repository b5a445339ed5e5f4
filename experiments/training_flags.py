"""Flags of the training, and the compiled method they describe."""

import method_flags
from absl import flags
from common_flags import FLAGS, must_be_positive

from pixpro_keras.methods import PretrainMethod
from pixpro_keras.optimizers import LARS, SGD, WarmupCosine

flags.DEFINE_integer("batch_size", 1024, "Images per step, all replicas together.")
flags.DEFINE_integer(
    "accumulate_steps", 1, "Parts into which a replica's batch is cut to save memory.", 1
)
flags.DEFINE_integer("epochs", 100, "Passes over the images, or multiples of --steps_per_epoch.")
flags.DEFINE_integer("steps_per_epoch", None, "Steps in an epoch. Default: images / batch_size.")
flags.DEFINE_float(
    "base_learning_rate", 1.0, "Peak learning rate at batch 256; see --learning_rate_scaling."
)
flags.DEFINE_enum(
    "learning_rate_scaling",
    "linear",
    ["linear", "sqrt"],
    "How the peak follows the batch: linear is base * batch/256; sqrt is base * 4 * "
    "sqrt(batch/1024), which serves small batches.",
)
flags.DEFINE_float("end_learning_rate", 1e-6, "Learning rate of the last step.", 0.0)
flags.DEFINE_float(
    "warmup_epochs", 5, "Epochs of linear warm-up from a hundredth of the peak.", 0.0
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
flags.DEFINE_float("sgd_momentum", 0.9, "Momentum of SGD, in [0, 1).", 0.0)
flags.DEFINE_boolean("jit_compile", False, "XLA for the step; on one GPU or TPU, not on CPUs.")
must_be_positive("batch_size", "epochs", "steps_per_epoch", "base_learning_rate")
flags.register_validator("sgd_momentum", lambda value: value < 1, "must be below 1")


def peak_learning_rate() -> float:
    """Learning rate after the warm-up."""
    if FLAGS.learning_rate_scaling == "sqrt":
        return FLAGS.base_learning_rate * 4 * (FLAGS.batch_size / 1024) ** 0.5
    return FLAGS.base_learning_rate * FLAGS.batch_size / 256


def build_schedule(steps_per_epoch: int) -> WarmupCosine:
    """Learning rate by step."""
    total_steps = FLAGS.epochs * steps_per_epoch
    warmup_steps = min(round(FLAGS.warmup_epochs * steps_per_epoch), total_steps)
    return WarmupCosine(
        peak_learning_rate(), total_steps, warmup_steps, end=FLAGS.end_learning_rate
    )


def build_training(steps_per_epoch: int, synchronized: bool = False) -> PretrainMethod:
    """The compiled method with new weights, its optimizer built. In the strategy's scope.

    Args:
        steps_per_epoch: optimizer steps in an epoch.
        synchronized: whether batch norm takes its statistics over all replicas.
    """
    method = method_flags.build_method(
        FLAGS.epochs * steps_per_epoch,
        accumulate_steps=FLAGS.accumulate_steps,
        synchronized=synchronized,
    )
    schedule = build_schedule(steps_per_epoch)
    optimizer_class = {"lars": LARS, "sgd": SGD}[FLAGS.optimizer]
    optimizer = optimizer_class(schedule, FLAGS.sgd_momentum, l2_decay=FLAGS.weight_decay)
    method.compile(optimizer=optimizer, jit_compile=FLAGS.jit_compile)
    method.optimizer.build(method.trainable_variables)
    return method
