"""Options of evaluations during pre-training: k-NN of images, dense linear probe of pixels."""

import dataclasses

from pixpro_keras.cli.options.flag_errors import refuse_unused
from pixpro_keras.cli.options.option_fields import FlagError, Options, is_image_shape, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class MonitorOptions(Options):
    """Options of measurements during pre-training."""

    eval_every_epochs: int = option(
        0,
        "Epochs between evaluations of the frozen features on labeled images, logged as knn_top1 and "
        "cells_miou; 0: none.",
        minimum=0,
        is_main=True,
    )
    eval_train_dataset: str | None = option(
        None, "Labeled training images for knn_top1; see --dataset.", is_main=True
    )
    eval_test_dataset: str | None = option(None, "Labeled test images for knn_top1.", is_main=True)
    eval_mask_dataset: str | None = option(
        None,
        "Images and masks for cells_miou, the mIoU of a linear classifier on the cells of C5; see "
        "--dataset of pixpro-segment.",
    )
    eval_mask_size: tuple[str, ...] = option(
        ("240", "320"),
        "Height,width in pixels to which the images and masks of --eval_mask_dataset are scaled.",
        check=is_image_shape,
        must="be height,width in pixels",
    )


def check_measurements(options: MonitorOptions) -> None:
    """Checks the flags of `--eval_every_epochs`, on every worker, although the chief alone evaluates.

    Raises:
        FlagError: if there is nothing to measure on, or a given flag has no effect.
    """
    datasets = ("eval_train_dataset", "eval_test_dataset", "eval_mask_dataset")
    unused = {}
    if not options.eval_mask_dataset:
        unused["eval_mask_size"] = "there is no --eval_mask_dataset"
    if not options.eval_every_epochs:
        unused |= dict.fromkeys(datasets, "needs --eval_every_epochs, which is 0")
    refuse_unused(options, unused)
    if options.eval_every_epochs and not any(getattr(options, name) for name in datasets):
        raise FlagError(
            f"--eval_every_epochs={options.eval_every_epochs}: needs --eval_train_dataset and "
            "--eval_test_dataset, or --eval_mask_dataset"
        )
