"""Flags of the network and the method, and the model they describe."""

import inspect
from typing import Any

import keras
from absl import flags
from common_flags import FLAGS, FlagError, blame, must_be_positive

from pixpro_keras import backbones
from pixpro_keras.methods import METHOD_ARGUMENTS, METHODS, PretrainMethod
from pixpro_keras.methods.instance_branch import FORMS

flags.DEFINE_enum("method", "pixpro", sorted(METHODS), "Pre-training method.")
flags.DEFINE_string(
    "backbone",
    "resnet50",
    "Network: any keras.applications constructor in lower case (resnet50, mobilenetv2, ...), or the "
    "paper's stride-in-3x3 family resnet18_v1_5, 34, 50, 101, 152.",
)
flags.DEFINE_enum(
    "output_stride",
    "32",
    ["32", "16"],
    "Pixels per feature-map cell. 16 dilates a ResNet's last stage: 7x7 maps from 112 px, with the "
    "same weights.",
)
flags.DEFINE_integer("image_size", 224, "Side of the square views in pixels.")
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
    "0.1, moco 0.07, mocov2 and densecl 0.2).",
)
flags.DEFINE_integer("queue_size", None, "Keys in the queue of moco and densecl. Default: 65536.")
flags.DEFINE_float("dense_weight", 0.5, "Share of the dense loss in densecl.", 0.0, 1.0)
flags.DEFINE_integer(
    "projector_hidden_dim",
    None,
    "Channels inside the projector. Default: the method's (pixpro, pixcontrast, byol 4096; others 2048).",
)
flags.DEFINE_integer(
    "projector_dim",
    None,
    "Output channels of the projector. Default: the method's (pixpro, pixcontrast, byol 256; others 128).",
)
flags.DEFINE_float(
    "base_momentum",
    None,
    "Momentum of the target's moving average in the first step; it rises to 1 along a cosine, or stays "
    "in moco and densecl. Default: the method's (0.99; moco and densecl 0.999).",
    0.0,
    1.0,
)
flags.DEFINE_float(
    "bn_momentum",
    0.9,
    "Share of the old moving statistics that batch norm keeps in each step.",
    0.0,
    1.0,
)
must_be_positive(
    "image_size",
    "threshold",
    "gamma",
    "temperature",
    "instance_temperature",
    "queue_size",
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
)


def identity() -> dict:
    """What makes the weights of two runs interchangeable."""
    parts = {
        "pixel": FLAGS.pixel_weight > 0,
        "instance": FLAGS.instance_form if FLAGS.instance_weight > 0 else None,
    }
    return {name: FLAGS[name].value for name in _IDENTITY} | parts


def check_backbone() -> None:
    """Refuses a network that is unknown or does not take the image size, before anything is built.

    Raises:
        FlagError: naming the flag.
    """
    with blame("backbone"):
        smallest = backbones.min_image_size(FLAGS.backbone)
    if FLAGS.image_size < smallest:
        raise FlagError(
            f"--image_size={FLAGS.image_size}: {FLAGS.backbone} takes {smallest} px or more"
        )


def build_backbone(synchronized: bool = False) -> keras.Model:
    """The untrained backbone that the flags describe."""
    with blame("backbone", "output_stride"):
        return backbones.build(
            FLAGS.backbone,
            output_stride=int(FLAGS.output_stride),
            bn_momentum=FLAGS.bn_momentum,
            synchronized=synchronized,
        )


def build_method(
    total_steps: int, accumulate_steps: int = 1, synchronized: bool = False
) -> PretrainMethod:
    """The method that the flags describe, with new weights.

    Args:
        total_steps: optimizer steps of the whole run.
        accumulate_steps: parts into which each batch is cut.
        synchronized: whether batch norm takes its statistics over all replicas.
    """
    arguments: dict = {
        "threshold": FLAGS.threshold,
        "use_propagation": FLAGS.propagation,
        "gamma": FLAGS.gamma,
        "num_transform_layers": FLAGS.transform_layers,
        "temperature": FLAGS.temperature,
        "queue_size": FLAGS.queue_size,
        "dense_weight": FLAGS.dense_weight,
        "pixel_weight": FLAGS.pixel_weight,
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
        build_backbone(synchronized),
        total_steps=total_steps,
        accumulate_steps=accumulate_steps,
        synchronized=synchronized,
        **arguments,
    )
