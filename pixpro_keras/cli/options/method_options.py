"""Options of the pre-training method, and the model they describe."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import keras

from pixpro_keras import backbones
from pixpro_keras.cli.options.backbone_options import build_backbone
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.option_fields import Options, option, option_fields
from pixpro_keras.cli.options.training_options import TrainingOptions, compile_task
from pixpro_keras.cli.options.view_options import ViewOptions
from pixpro_keras.data.labels import check_labels
from pixpro_keras.data.sources import Source
from pixpro_keras.methods import METHOD_ARGUMENTS, METHODS, PretrainMethod
from pixpro_keras.methods.instance_branch import FORMS
from pixpro_keras.methods.pixcontrast import NEGATIVES
from pixpro_keras.types import Batch

ModelT = TypeVar("ModelT", bound="ModelOptions")

# Options whose name differs from that of the method's argument.
ARGUMENTS = {
    "propagation": "use_propagation",
    "transform_layers": "num_transform_layers",
    "fpn": "use_fpn",
    "target_encoder": "use_target",
    "projector_hidden_dim": "hidden_dim",
    "projector_dim": "out_dim",
}
# Options that must equal those of a checkpoint.
_IDENTITY = (
    "method",
    "output_stride",
    "propagation",
    "transform_layers",
    "projector_hidden_dim",
    "projector_dim",
    "fpn",
    "num_classes",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodOptions(Options):
    """Options of the method."""

    method: str = option("pixpro", "Pre-training method.", choices=sorted(METHODS), is_main=True)
    threshold: float = option(
        0.7,
        "Largest distance of a positive pair, in feature-map cell diagonals (T).",
        above=0,
        is_main=True,
    )
    propagation: bool | None = option(
        None,
        "Use the pixel propagation module before the loss. Default: yes in pixpro, no in "
        "pixcontrast.",
    )
    gamma: float = option(
        2.0, "Sharpness (exponent) of the similarity in the propagation module.", above=0
    )
    transform_layers: int = option(
        1, "Number of 1x1 convolutions in the propagation module, 0 to 3.", minimum=0, maximum=3
    )
    pixel_weight: float = option(
        1.0, "Weight of the pixel loss; 0 trains the instance branch alone.", minimum=0.0
    )
    fpn: bool = option(
        False,
        "Add an FPN to the backbone: pixel loss on P3 to P6, instance loss on C5. Sides of views must be "
        "multiples of 32 px.",
    )
    pixel_levels: tuple[str, ...] = option(
        ("c5",),
        "Maps of the backbone with a pixel loss, of c3, c4 and c5 (for example c4,c5), each with its own "
        "projector; the loss is their mean.",
        check=lambda levels: 0 < len(levels) == len({"c3", "c4", "c5"} & {*levels}),
        must="be different levels of c3, c4 and c5",
    )
    negatives: str = option(
        "image",
        "Negatives of pixcontrast. image: pixels of the same image, as in the paper. batch: pixels of all "
        "images of the batch. other_images: pixels of all other images, so that pixels of one image are "
        "not pushed apart. queue: pixels of earlier batches, of which --queue_size are kept.",
        choices=NEGATIVES,
    )
    target_encoder: bool = option(
        True,
        "Compare with a moving-average target, as in the paper. False: with the online encoder's output for "
        "the other view, as in simclr; faster, and for contrastive losses, since others may collapse.",
    )
    variance_weight: float = option(
        0.0, "Weight of VICReg's variance term on the projected pixels.", minimum=0.0
    )
    covariance_weight: float = option(
        0.0, "Weight of VICReg's covariance term on the projected pixels.", minimum=0.0
    )
    instance_weight: float = option(
        0.0, "Weight (alpha) of the instance branch (SimCLR*); 0: none.", minimum=0.0, is_main=True
    )
    instance_form: str = option(
        "predictor",
        "Instance branch: predictor (the release's, no negatives) or contrastive (the paper's SimCLR*).",
        choices=FORMS,
    )
    instance_temperature: float = option(
        0.2, "Temperature of the contrastive instance branch.", above=0
    )
    temperature: float | None = option(
        None,
        "Softmax temperature (tau) of contrastive losses. Default: the method's (pixcontrast 0.3, simclr "
        "0.1, moco 0.07, infomin 0.15, mocov2, densecl and slotcon 0.2).",
        above=0,
    )
    queue_size: int | None = option(
        None,
        "Number of keys in the queue of moco, infomin, densecl, pixcontrast. Default: 65536.",
        above=0,
    )
    dense_weight: float = option(
        0.5,
        "Weight of the dense loss in densecl, in [0, 1]; the image loss has the rest.",
        minimum=0.0,
        maximum=1.0,
    )
    jigsaw_weight: float = option(
        0.5,
        "Weight of the jigsaw loss in infomin, in [0, 1]; the loss of view 1 has the rest.",
        minimum=0.0,
        maximum=1.0,
    )
    num_slots: int = option(
        2048, "Number of prototypes in slotcon; its authors use 256 for COCO.", minimum=1
    )
    group_weight: float = option(
        0.5,
        "Weight of the grouping loss in slotcon, in [0, 1]; the slot loss has the rest.",
        minimum=0.0,
        maximum=1.0,
    )
    num_classes: int | None = option(
        None, "Number of classes of supervised. Default: that of the data set.", above=0
    )
    projector_hidden_dim: int | None = option(
        None,
        "Hidden channels of the projector. Default: the method's (pixpro, pixcontrast, byol, slotcon "
        "4096; others 2048).",
        above=0,
    )
    projector_dim: int | None = option(
        None,
        "Output channels of the projector. Default: the method's (pixpro, pixcontrast, byol, slotcon 256; "
        "others 128).",
        above=0,
    )
    base_momentum: float | None = option(
        None,
        "Momentum of the target's moving average in the first step. It rises to 1 along a cosine, but is "
        "constant in moco, infomin and densecl. Default: the method's (0.99; 0.999 for those three).",
        minimum=0.0,
        maximum=1.0,
    )
    remat: bool = option(
        False,
        "Recompute the backbone's activations in the backward pass instead of storing them "
        "(rematerialization): less memory, a slower step, the same results.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions(MethodOptions, TrainingOptions, ViewOptions):
    """Options of a pre-training's model and its training."""


def identity(options: ModelOptions) -> dict:
    """Returns the values that must be equal for two runs to share weights."""
    parts: dict = {
        # Without folders: a run may be moved, with the file of its network.
        "backbone": backbones.public_name(options.backbone),
        "pixel": options.pixel_weight > 0,
        "instance": options.instance_form if options.instance_weight > 0 else None,
    }
    if options.method == "slotcon":
        parts["num_slots"] = options.num_slots
    if options.pixel_levels != MethodOptions.pixel_levels:
        parts["pixel_levels"] = options.pixel_levels
    if options.negatives == "queue":
        parts["queue_size"] = options.queue_size
    if not options.target_encoder:
        parts["target_encoder"] = False
    return {name: getattr(options, name) for name in _IDENTITY} | parts


def resolve_classes(options: ModelT, source: Source) -> ModelT:
    """Returns options with `num_classes`, where the method learns from labels.

    Args:
        options: options of the pre-training.
        source: the images.

    Raises:
        FlagError: if the images do not have the labels that the method needs.
    """
    if not METHODS[options.method].uses_labels:
        return options
    num_classes = options.num_classes or len(source.class_names or ())
    with flag_errors(options, "dataset", "num_classes"):
        check_labels(source, num_classes)
    return options.replace(num_classes=num_classes)


def build_method(
    options: ModelOptions,
    total_steps: int,
    device_transform: Callable[[Batch], Batch] | None = None,
    trained: keras.Model | None = None,
) -> PretrainMethod:
    """Returns the method that the options describe.

    Args:
        options: options of the pre-training.
        total_steps: optimizer steps of the whole run.
        device_transform: part of the augmentation that is left to the training step.
        trained: the same backbone with the weights with which it and its target begin; default: new ones.

    Raises:
        FlagError: if these weights are of another network.
    """
    cls: Any = METHODS[options.method]
    known = arguments_of(cls)
    arguments = {
        ARGUMENTS.get(field.name, field.name): getattr(options, field.name)
        for field in option_fields(MethodOptions)
    } | {"bn_momentum": options.bn_momentum}
    # Only arguments of the method are passed; an option of None keeps the method's default.
    arguments = {k: v for k, v in arguments.items() if k in known and v is not None}
    with flag_errors(options, "backbone"):
        backbone = build_backbone(options, trained)
    with flag_errors(options, "method", "backbone", "fpn", "pixel_levels"):
        return cls(
            backbone,
            total_steps=total_steps,
            accumulate_steps=options.accumulate_steps,
            device_transform=device_transform,
            **(METHOD_ARGUMENTS.get(options.method, {}) | arguments),
        )


def build_training(
    options: ModelOptions,
    device_transform: Callable[[Batch], Batch] | None = None,
    trained: keras.Model | None = None,
) -> PretrainMethod:
    """Returns the method of `build_method` compiled, its optimizer built. In the strategy's scope."""
    method = build_method(options, options.total_steps, device_transform, trained)
    if options.remat:
        with flag_errors(options, "remat", "backbone"):
            method.encoder.recompute_backbone()
    compile_task(options, method)
    return method


def arguments_of(cls: type[PretrainMethod]) -> dict[str, inspect.Parameter]:
    """Returns a method's constructor arguments, those of its base classes included, by name."""
    return {
        name: parameter
        for parent in reversed(cls.__mro__)
        if "__init__" in vars(parent) and issubclass(parent, PretrainMethod)
        for name, parameter in inspect.signature(parent.__init__).parameters.items()
    }
