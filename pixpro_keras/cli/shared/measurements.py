"""Measurements of the frozen features during a pre-training: k-NN of images, dense linear probe of pixels."""

from collections.abc import Callable

import keras
import tensorflow as tf

from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.labeled_options import open_pair, readable_batches
from pixpro_keras.cli.options.pretrain_options import PretrainOptions
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.evaluation.monitor import Monitor, dense_linear_miou, knn_accuracy
from pixpro_keras.segmentation import mask_pipeline
from pixpro_keras.segmentation.mask_datasets import open_masks
from pixpro_keras.segmentation.mask_source import resized
from pixpro_keras.types import Tensor

_BATCH_SIZE = 64
_MASK_BATCH_SIZE = 16


def build_measurements(
    options: PretrainOptions,
    backbone: keras.Model,
    preprocess: Callable[[Tensor], Tensor],
    strategy: tf.distribute.Strategy,
) -> list[Monitor]:
    """Returns the measurement of `--eval_every_epochs`, for the log of a run; none if it is 0.

    Args:
        options: resolved.
        backbone: measured in inference mode.
        preprocess: function from RGB in 0..255 to the backbone's convention.
        strategy: devices that share the work.

    Raises:
        FlagError: if a data set cannot be opened.
    """
    if not options.eval_every_epochs:
        return []
    measures: dict[str, Callable[[], float]] = {}
    if options.eval_train_dataset or options.eval_test_dataset:
        measures["knn_top1"] = _knn(options, backbone, preprocess, strategy)
    if options.eval_mask_dataset:
        measures["cells_miou"] = _cells(options, backbone, preprocess, strategy)
    every_steps = options.eval_every_epochs * (options.steps_per_epoch or 1)
    return [Monitor(lambda: {name: measure() for name, measure in measures.items()}, every_steps)]


def _knn(
    options: PretrainOptions,
    backbone: keras.Model,
    preprocess: Callable[[Tensor], Tensor],
    strategy: tf.distribute.Strategy,
) -> Callable[[], float]:
    """Returns a function that measures the accuracy of k-NN."""
    parts = open_pair(options, "eval_train_dataset", "eval_test_dataset", options.data_dir)
    sources = (parts.train, parts.test)
    # One count for all measurements, so that the log names a broken image once.
    counts = [BrokenImages(source, options.max_broken_share) for source in sources]

    def measure() -> float:
        train, test = (
            readable_batches(source, options.image_size, preprocess, _BATCH_SIZE, broken)
            for source, broken in zip(sources, counts, strict=True)
        )
        return knn_accuracy(backbone, train, test, parts.num_classes, strategy=strategy)

    return measure


def _cells(
    options: PretrainOptions,
    backbone: keras.Model,
    preprocess: Callable[[Tensor], Tensor],
    strategy: tf.distribute.Strategy,
) -> Callable[[], float]:
    """Returns a function that measures the mIoU of a dense linear probe."""
    spec = options.eval_mask_dataset or ""
    test_split = "validation" if spec.startswith(("tfds:", "scenes")) else "val"
    height, width = map(int, options.eval_mask_size)
    with flag_errors(options, "eval_mask_dataset"):
        sources = [
            resized(open_masks(spec, split, data_dir=options.data_dir), (height, width))
            for split in ("train", test_split)
        ]
    counts = [BrokenImages(source, options.max_broken_share) for source in sources]
    num_classes = len(sources[0].class_names)

    def measure() -> float:
        train, test = (
            mask_pipeline.readable_batches(source, preprocess, _MASK_BATCH_SIZE, broken)
            for source, broken in zip(sources, counts, strict=True)
        )
        return dense_linear_miou(backbone, train, test, num_classes, strategy=strategy)

    return measure
