"""Options of the backbone, and the network they describe."""

import dataclasses

import keras
from absl import logging

from pixpro_keras import backbones
from pixpro_keras.backbones import network_files
from pixpro_keras.backbones.resnet import undo_zero_init_residual, use_fan_in
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.option_fields import FlagError, Options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneOptions(Options):
    """Options of the backbone."""

    backbone: str = option(
        "resnet50",
        "Network: any keras.applications constructor in lower case (resnet50, mobilenetv2, ...); the "
        "paper's stride-in-3x3 family: resnet18_v1_5, resnet18_d (34, 50, 101, 152), resnext50_32x4d, "
        "resnext101_32x8d, wide_resnet50_2, wide_resnet101_2; KerasCV's presets: "
        "keras_cv:yolo_v8_s_backbone, keras_cv:efficientnetv2_b0, ...; or FILE.keras, any functional "
        "Keras network from images to a feature map, such as KerasHub's backbones, from whose weights a "
        "pre-training starts.",
        is_main=True,
    )
    output_stride: str = option(
        "32",
        "Pixels per feature-map cell. 16 dilates the last stage of a ResNet, with the same weights: 7x7 "
        "maps at 112 px.",
        choices=("32", "16"),
        is_main=True,
    )
    image_size: int = option(224, "Side of the square views in pixels.", above=0, is_main=True)
    bn_momentum: float = option(
        0.9,
        "Momentum of the moving statistics of batch norm: the fraction that is kept in each step.",
        minimum=0.0,
        maximum=1.0,
    )
    zero_init_residual: bool = option(
        True,
        "Initialize the last batch-norm scale of each residual block of a new ResNet to 0, as in the "
        "paper's pre-training, instead of 1. While it is near 0, as it still is after a few hundred "
        "steps, the blocks have almost no effect.",
    )
    kernel_fan: str = option(
        "out",
        "Fan of the initial kernels of a new ResNet, whose variance is 2 / fan: out, as in the release, "
        "or in, as in DenseCL.",
        choices=("out", "in"),
    )


def check_backbone(options: BackboneOptions) -> None:
    """Checks that the network is known and takes the image size.

    Raises:
        FlagError: naming the flag.
    """
    with flag_errors(options, "backbone"):
        smallest = backbones.min_image_size(options.backbone)
        side = backbones.fixed_image_size(options.backbone)
    if side not in (None, options.image_size):
        raise FlagError(
            f"--image_size={options.image_size}: {options.backbone} takes images of {side} px only"
        )
    if options.image_size < smallest:
        raise FlagError(
            f"--image_size={options.image_size}: {options.backbone} takes {smallest} px or more"
        )


def log_input(options: BackboneOptions) -> None:
    """Logs the input convention of a network from a file, since it is inferred from its layers."""
    if network_files.is_file(options.backbone):
        convention = backbones.input_convention(options.backbone)
        logging.info("Input of %s: %s.", options.backbone, convention)


def build_backbone(options: BackboneOptions, trained: keras.Model | None = None) -> keras.Model:
    """Returns the backbone that the options describe.

    Args:
        options: options of the backbone.
        trained: the same network, whose weights are copied; default: new weights, initialized according to
            `--zero_init_residual` and `--kernel_fan`.

    Raises:
        ValueError: if the weights are of another network.
    """
    with flag_errors(options, "backbone", "output_stride"):
        backbone = backbones.build(
            options.backbone,
            output_stride=int(options.output_stride),
            bn_momentum=options.bn_momentum,
        )
    if trained is not None:
        backbones.copy_weights(trained, backbone)
        return backbone
    if not options.zero_init_residual:
        undo_zero_init_residual(backbone)
    if options.kernel_fan == "in":
        with flag_errors(options, "kernel_fan", "backbone"):
            use_fan_in(backbone)
    return backbone
