"""Flags of the pre-training method, and the model they describe."""

import inspect
from collections.abc import Callable
from typing import Any

from absl import flags

from pixpro_keras.cli.shared import backbone_flags, training_flags
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame, must_be_positive
from pixpro_keras.data.sources import Source, check_labels
from pixpro_keras.data.transforms import recipes
from pixpro_keras.methods import METHOD_ARGUMENTS, METHODS, PixelMethod, PretrainMethod
from pixpro_keras.methods.instance_branch import FORMS
from pixpro_keras.types import Batch

flags.DEFINE_enum("method", "pixpro", sorted(METHODS), "Pre-training method.")
flags.DEFINE_float(
    "threshold", 0.7, "Largest distance of a positive pair, in feature-map cell diagonals (T)."
)
flags.DEFINE_boolean(
    "propagation",
    None,
    "Whether the pixel propagation module stands before the loss. Default: yes in pixpro, no in "
    "pixcontrast.",
)
flags.DEFINE_float("gamma", 2.0, "Sharpness of the propagation module's similarity.")
flags.DEFINE_integer(
    "transform_layers", 1, "1x1 convolutions in the propagation module, 0 to 3.", 0, 3
)
flags.DEFINE_float(
    "pixel_weight", 1.0, "Weight of the pixel loss; 0: the instance branch alone.", 0.0
)
flags.DEFINE_boolean(
    "fpn",
    False,
    "An FPN above the backbone: the pixel loss on P3 to P6, the instance loss on C5. Sides of views "
    "must be multiples of 32 px.",
)
flags.DEFINE_float(
    "instance_weight", 0.0, "Weight (alpha) of the instance branch (SimCLR*); 0: none.", 0.0
)
flags.DEFINE_enum(
    "instance_form",
    "predictor",
    FORMS,
    "Instance branch: predictor (the release's, no negatives) or contrastive (the paper's SimCLR*).",
)
flags.DEFINE_float("instance_temperature", 0.2, "Temperature of the contrastive instance branch.")
flags.DEFINE_float(
    "temperature",
    None,
    "Softmax temperature (tau) of contrastive losses. Default: the method's (pixcontrast 0.3, simclr "
    "0.1, moco 0.07, infomin 0.15, mocov2, densecl and slotcon 0.2).",
)
flags.DEFINE_integer(
    "queue_size", None, "Keys in the queue of moco, infomin and densecl. Default: 65536."
)
flags.DEFINE_float("dense_weight", 0.5, "Share of the dense loss in densecl.", 0.0, 1.0)
flags.DEFINE_float("jigsaw_weight", 0.5, "Share of the puzzle's loss in infomin.", 0.0, 1.0)
flags.DEFINE_integer("num_slots", 2048, "Prototypes in slotcon; its authors take 256 for COCO.", 1)
flags.DEFINE_float("group_weight", 0.5, "Share of the grouping loss in slotcon.", 0.0, 1.0)
flags.DEFINE_integer(
    "num_classes", None, "Classes of supervised. Default: as many as the data set names."
)
flags.DEFINE_integer(
    "projector_hidden_dim",
    None,
    "Channels inside the projector. Default: the method's (pixpro, pixcontrast, byol, slotcon 4096; others "
    "2048).",
)
flags.DEFINE_integer(
    "projector_dim",
    None,
    "Output channels of the projector. Default: the method's (pixpro, pixcontrast, byol, slotcon 256; others "
    "128).",
)
flags.DEFINE_float(
    "base_momentum",
    None,
    "Momentum of the target's moving average in the first step; it rises to 1 along a cosine, or stays "
    "in moco, infomin and densecl. Default: the method's (0.99; those three 0.999).",
    0.0,
    1.0,
)
flags.DEFINE_boolean(
    "remat",
    False,
    "Compute the backbone's activations a second time in the backward pass instead of keeping them: less "
    "memory, a slower step, the same results.",
)
must_be_positive(
    "threshold",
    "gamma",
    "temperature",
    "instance_temperature",
    "queue_size",
    "num_classes",
    "projector_hidden_dim",
    "projector_dim",
)

# Flags that decide which checkpoints fit.
_IDENTITY = (
    "method",
    "backbone",
    "output_stride",
    "propagation",
    "transform_layers",
    "projector_hidden_dim",
    "projector_dim",
    "fpn",
    "num_classes",
)


def identity() -> dict:
    """What makes the weights of two runs interchangeable."""
    parts = {
        "pixel": FLAGS.pixel_weight > 0,
        "instance": FLAGS.instance_form if FLAGS.instance_weight > 0 else None,
    }
    if FLAGS.method == "slotcon":
        parts["num_slots"] = FLAGS.num_slots
    return {name: FLAGS[name].value for name in _IDENTITY} | parts


def check_data(source: Source) -> None:
    """Refuses data that the method cannot use; resolves `--num_classes`.

    Args:
        source: the images.

    Raises:
        FlagError: naming the flag.
    """
    cls = METHODS[FLAGS.method]
    if cls.uses_coordinates and recipes.moves_pixels(FLAGS.augmentation):
        raise FlagError(
            f"--augmentation={FLAGS.augmentation}: it moves pixels in a way that the coordinates do not "
            f"tell, which --method={FLAGS.method} compares by them"
        )
    if FLAGS.fpn and (not issubclass(cls, PixelMethod) or FLAGS.image_size % 32):
        raise FlagError(
            f"--fpn needs a pixel-level method and an image size that is a multiple of 32: "
            f"--method={FLAGS.method} --image_size={FLAGS.image_size}"
        )
    if not cls.uses_labels:
        return
    num_classes = FLAGS.num_classes or len(source.class_names or ())
    with blame("dataset", "num_classes"):
        check_labels(source, num_classes)
    FLAGS["num_classes"].value = num_classes  # flags.cfg says what the run did


def build_method(
    total_steps: int, device_transform: Callable[[Batch], Batch] | None = None
) -> PretrainMethod:
    """The method that the flags describe, with new weights.

    Args:
        total_steps: optimizer steps of the whole run.
        device_transform: see `Task`.
    """
    arguments: dict = {
        "threshold": FLAGS.threshold,
        "use_propagation": FLAGS.propagation,
        "gamma": FLAGS.gamma,
        "num_transform_layers": FLAGS.transform_layers,
        "temperature": FLAGS.temperature,
        "queue_size": FLAGS.queue_size,
        "dense_weight": FLAGS.dense_weight,
        "jigsaw_weight": FLAGS.jigsaw_weight,
        "num_slots": FLAGS.num_slots,
        "group_weight": FLAGS.group_weight,
        "num_classes": FLAGS.num_classes,
        "pixel_weight": FLAGS.pixel_weight,
        "use_fpn": FLAGS.fpn,
        "instance_weight": FLAGS.instance_weight,
        "instance_form": FLAGS.instance_form,
        "instance_temperature": FLAGS.instance_temperature,
        "hidden_dim": FLAGS.projector_hidden_dim,
        "out_dim": FLAGS.projector_dim,
        "base_momentum": FLAGS.base_momentum,
        "bn_momentum": FLAGS.bn_momentum,
    }
    cls: Any = METHODS[FLAGS.method]
    # A method takes what it knows; a flag left at None leaves the method's own default.
    known = {
        name
        for parent in cls.__mro__
        if "__init__" in vars(parent) and issubclass(parent, PretrainMethod)
        for name in inspect.signature(parent.__init__).parameters
    }
    given = {k: v for k, v in arguments.items() if k in known and v is not None}
    arguments = METHOD_ARGUMENTS.get(FLAGS.method, {}) | given
    return cls(
        backbone_flags.build_backbone(),
        total_steps=total_steps,
        accumulate_steps=FLAGS.accumulate_steps,
        device_transform=device_transform,
        **arguments,
    )


def build_training(
    steps_per_epoch: int, device_transform: Callable[[Batch], Batch] | None = None
) -> PretrainMethod:
    """The compiled method with new weights, its optimizer built. In the strategy's scope.

    Args:
        steps_per_epoch: optimizer steps in an epoch.
        device_transform: see `Task`.
    """
    method = build_method(FLAGS.epochs * steps_per_epoch, device_transform)
    if FLAGS.remat:
        with blame("remat", "backbone"):
            method.encoder.recompute_backbone()
    method.compile(training_flags.build_optimizer(steps_per_epoch), jit_compile=FLAGS.jit_compile)
    method.optimizer.build(method.trainable_variables)
    return method
