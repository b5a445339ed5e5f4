"""Options of evaluations during pre-training: k-NN of images, dense linear probe of pixels."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from pixpro_keras.cli.options import labeled_options
from pixpro_keras.cli.options.flag_errors import flag_errors, refuse_unused
from pixpro_keras.cli.options.option_fields import FlagError, Options, is_image_shape, option
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.evaluation.monitor import Monitor, dense_linear_miou, knn_accuracy
from pixpro_keras.segmentation import mask_pipeline
from pixpro_keras.segmentation.mask_datasets import open_masks
from pixpro_keras.segmentation.mask_source import resized
from pixpro_keras.types import Tensor

_BATCH_SIZE = 64
_MASK_BATCH_SIZE = 16


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


def build_measurements(
    options: MonitorOptions,
    backbone: keras.Model,
    preprocess: Callable[[Tensor], Tensor],
    strategy: tf.distribute.Strategy,
    *,
    steps_per_epoch: int,
    image_size: int,
    data_dir: str | None,
    max_broken_share: float,
) -> list[Monitor]:
    """Returns the measurement of `--eval_every_epochs`, for the log of a run; none if it is 0.

    Args:
        options: the data sets, checked by `check_measurements`.
        backbone: measured in inference mode.
        preprocess: function from RGB in 0..255 to the backbone's convention.
        strategy: devices that share the work.
        steps_per_epoch: steps in an epoch.
        image_size: side of the images of k-NN, in pixels.
        data_dir: directory of TFDS data sets.
        max_broken_share: largest share of images that cannot be decoded, in [0, 1].

    Raises:
        FlagError: if a data set cannot be opened.
    """
    if not options.eval_every_epochs:
        return []
    measures: dict[str, Callable[[], float]] = {}
    if options.eval_train_dataset or options.eval_test_dataset:
        parts = labeled_options.open_pair(
            options, "eval_train_dataset", "eval_test_dataset", data_dir
        )
        # One count for all measurements, so that the log names a broken image once.
        train, test = (
            functools.partial(
                labeled_options.readable_batches,
                source,
                image_size,
                preprocess,
                _BATCH_SIZE,
                BrokenImages(source, max_broken_share),
            )
            for source in (parts.train, parts.test)
        )
        measures["knn_top1"] = lambda: knn_accuracy(
            backbone, train(), test(), parts.num_classes, strategy=strategy
        )
    if options.eval_mask_dataset:
        spec = options.eval_mask_dataset
        test_split = "validation" if spec.startswith(("tfds:", "scenes")) else "val"
        height, width = map(int, options.eval_mask_size)
        with flag_errors(options, "eval_mask_dataset"):
            sources = [
                resized(open_masks(spec, split, data_dir=data_dir), (height, width))
                for split in ("train", test_split)
            ]
        train_masks, test_masks = (
            functools.partial(
                mask_pipeline.readable_batches,
                source,
                preprocess,
                _MASK_BATCH_SIZE,
                BrokenImages(source, max_broken_share),
            )
            for source in sources
        )
        measures["cells_miou"] = lambda: dense_linear_miou(
            backbone, train_masks(), test_masks(), len(sources[0].class_names), strategy=strategy
        )
    return [
        Monitor(
            lambda: {name: measure() for name, measure in measures.items()},
            options.eval_every_epochs * steps_per_epoch,
        )
    ]
