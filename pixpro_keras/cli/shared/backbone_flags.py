"""Flags of the backbone, and the network they describe."""

import keras
from absl import flags

from pixpro_keras import backbones
from pixpro_keras.backbones.resnet import open_residual_branches
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame, must_be_positive

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
    "bn_momentum",
    0.9,
    "Share of the old moving statistics that batch norm keeps in each step.",
    0.0,
    1.0,
)
flags.DEFINE_boolean(
    "zero_init_residual",
    True,
    "Whether a new ResNet's last batch-norm scale in each residual block is 0, as in the paper's "
    "pre-training, or 1. A few hundred steps leave it near 0, and the blocks without effect.",
)
must_be_positive("image_size")


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


def build_backbone() -> keras.Model:
    """The untrained backbone that the flags describe."""
    with blame("backbone", "output_stride"):
        backbone = backbones.build(
            FLAGS.backbone,
            output_stride=int(FLAGS.output_stride),
            bn_momentum=FLAGS.bn_momentum,
        )
    if not FLAGS.zero_init_residual:
        open_residual_branches(backbone)
    return backbone
