"""Checks of the options of a pre-training method."""

from absl import logging

from pixpro_keras.cli.options.flag_errors import refuse_unused
from pixpro_keras.cli.options.method_options import (
    ARGUMENTS,
    MethodOptions,
    ModelOptions,
    arguments_of,
)
from pixpro_keras.cli.options.option_fields import FlagError, option_fields
from pixpro_keras.data.transforms import recipes
from pixpro_keras.methods import METHODS, PixContrast, PixelMethod, PretrainMethod

# Options that all methods have, or that are checked elsewhere.
_NOT_COMPARED = ("method", "remat", "fpn")


def check_method(options: ModelOptions) -> None:
    """Checks for options that have no effect on the method, and for invalid combinations.

    Raises:
        FlagError: naming the flags.
    """
    cls = METHODS[options.method]
    refuse_unused(options, _unused(options, cls))
    if cls.uses_coordinates and recipes.moves_pixels(options.augmentation):
        raise FlagError(
            f"--augmentation={options.augmentation}: it moves pixels without changing the coordinates, "
            f"by which --method={options.method} finds the positive pairs"
        )
    if options.local_views and not cls.uses_local_views:
        raise FlagError(
            f"--local_views={options.local_views}: --method={options.method} does not use local views"
        )
    if issubclass(cls, PixelMethod) and not (options.pixel_weight or options.instance_weight):
        raise FlagError("--pixel_weight=0 --instance_weight=0: one of the losses needs a weight")
    if options.fpn and (not issubclass(cls, PixelMethod) or options.image_size % 32):
        raise FlagError(
            f"--fpn needs a pixel-level method and an image size that is a multiple of 32: "
            f"--method={options.method} --image_size={options.image_size}"
        )
    if options.fpn and options.local_views and options.local_image_size % 32:
        raise FlagError(
            f"--fpn --local_image_size={options.local_image_size}: an FPN needs multiples of 32"
        )
    size, part = _queue_size(options, cls), options.batch_size // options.accumulate_steps
    if part and size % part:
        raise FlagError(
            f"--queue_size={size}: must be a multiple of the {part} images that are enqueued at a time "
            f"(--batch_size={options.batch_size} --accumulate_steps={options.accumulate_steps}), such as "
            f"{max(size // part, 1) * part}"
        )
    if options.batch_size == options.accumulate_steps and _compares_images(options, cls):
        raise FlagError(
            f"--batch_size={options.batch_size} --accumulate_steps={options.accumulate_steps}: a loss that "
            "contrasts images needs two or more at a time, else it is 0"
        )


def warn_of_long_queue(options: ModelOptions, num_images: int) -> None:
    """Warns if a queue holds earlier keys of the images that are compared with it.

    Args:
        options: options of the pre-training.
        num_images: number of training images.
    """
    cls = METHODS[options.method]
    size = _queue_size(options, cls)
    keys_per_image = 2 if issubclass(cls, PixelMethod) else 1  # one of each view
    if size and size >= keys_per_image * num_images:
        logging.warning(
            "--queue_size=%d: of %d images the queue holds all, so that each image is pushed away from "
            "itself. The authors' queue holds a twentieth of their images",
            size,
            num_images,
        )


def _queue_size(options: ModelOptions, cls: type[PretrainMethod]) -> int:
    """Returns the number of keys of earlier batches that a method keeps, 0 without a queue."""
    queue_size = arguments_of(cls).get("queue_size")
    if queue_size is None or (issubclass(cls, PixelMethod) and options.negatives != "queue"):
        return 0
    return options.queue_size or queue_size.default


def _compares_images(options: ModelOptions, cls: type[PretrainMethod]) -> bool:
    """Returns True if a loss term contrasts the images of a batch."""
    if not issubclass(cls, PixelMethod):
        return options.method == "simclr"
    has_branch = options.instance_weight > 0 and options.instance_form == "contrastive"
    is_pixcontrast = issubclass(cls, PixContrast) and options.pixel_weight > 0
    return has_branch or (is_pixcontrast and options.negatives == "other_images")


def _unused(options: ModelOptions, cls: type[PretrainMethod]) -> dict[str, str]:
    """Options that have no effect, and why."""
    known = arguments_of(cls)
    names = [field.name for field in option_fields(MethodOptions)]
    reasons = {
        name: f"--method={options.method} does not have it"
        for name in names
        if name not in _NOT_COMPARED and ARGUMENTS.get(name, name) not in known
    }

    def add(reason: str, *names: str) -> None:
        for name in names:
            reasons.setdefault(name, reason)

    if not (cls.has_target and options.target_encoder):
        add("without a target encoder there is no moving average", "base_momentum")
    views = recipes.RECIPES[options.augmentation]
    if not any(view.blur for view in views):
        add(f"--augmentation={options.augmentation} does not blur", "blur_strength")
    if not any(view.jitter or view.grayscale or view.solarize for view in views):
        add(f"--augmentation={options.augmentation} does not change colors", "color_strength")
    if not options.local_views:
        add("--local_views=0 has no local views", "local_image_size", "min_local_crop_area")
    if not issubclass(cls, PixelMethod):
        return reasons
    if options.negatives != "queue":
        add("only --negatives=queue has a queue", "queue_size")
    if not options.instance_weight:
        add("--instance_weight=0 has no such branch", "instance_form", "instance_temperature")
    elif options.instance_form != "contrastive":
        add("only --instance_form=contrastive has a temperature", "instance_temperature")
    if not options.pixel_weight:
        reason = "--pixel_weight=0 has no pixel loss"
        add(reason, "variance_weight", "covariance_weight", "threshold", "propagation", "negatives")
    has_propagation = options.propagation or (
        options.propagation is None and not issubclass(cls, PixContrast)
    )
    if not (has_propagation and options.pixel_weight):
        add("there is no propagation module", "gamma", "transform_layers")
    return reasons
