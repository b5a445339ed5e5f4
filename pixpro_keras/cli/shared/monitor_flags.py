"""Flags of what is measured while pre-training: k-NN of images, linear probe of pixels."""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf
from absl import flags

from pixpro_keras.cli.shared import labelled
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame
from pixpro_keras.evaluation import features
from pixpro_keras.evaluation.monitor import Monitor, dense_linear_miou, knn_accuracy
from pixpro_keras.segmentation import mask_pipeline
from pixpro_keras.segmentation.mask_source import open_masks, resized
from pixpro_keras.types import Tensor

flags.DEFINE_integer(
    "eval_every_epochs",
    0,
    "Epochs between looks at what the features are worth on labelled images, logged beside the loss: "
    "knn_top1 and cells_miou; 0: none.",
    0,
)
flags.DEFINE_string(
    "eval_train_dataset", None, "knn_top1: labelled images whose neighbours vote; see --dataset."
)
flags.DEFINE_string("eval_test_dataset", None, "knn_top1: labelled images that are classified.")
flags.DEFINE_string(
    "eval_mask_dataset",
    None,
    "cells_miou: images and masks for a linear classifier of C5's cells; see --dataset of segment.py.",
)
flags.DEFINE_list(
    "eval_mask_size", ["240", "320"], "Height,width in pixels to which they are scaled."
)
_BATCH_SIZE = 64
_MASK_BATCH_SIZE = 16


def build_monitor(
    backbone: keras.Model,
    preprocess: Callable[[Tensor], Tensor],
    strategy: tf.distribute.Strategy,
) -> Monitor | None:
    """The callback of `--eval_every_epochs`, if there is one.

    Raises:
        FlagError: if there is nothing to measure on, or it cannot be opened.
    """
    if not FLAGS.eval_every_epochs:
        return None
    measures: dict[str, Callable[[], float]] = {}
    if FLAGS.eval_train_dataset or FLAGS.eval_test_dataset:
        train, labels = labelled.open_labelled("eval_train_dataset")
        test, test_labels = labelled.open_labelled("eval_test_dataset")
        measures["knn_top1"] = functools.partial(
            knn_accuracy,
            backbone,
            features.image_batches(train, FLAGS.image_size, preprocess, _BATCH_SIZE),
            features.image_batches(test, FLAGS.image_size, preprocess, _BATCH_SIZE),
            labelled.count_classes(train, test, labels, test_labels),
            strategy=strategy,
        )
    if FLAGS.eval_mask_dataset:
        shape = labelled.image_shape("eval_mask_size")
        if shape is None:
            raise FlagError("--eval_mask_size must be given")
        spec = FLAGS.eval_mask_dataset
        test_split = "validation" if spec.startswith(("tfds:", "scenes")) else "val"
        with blame("eval_mask_dataset"):
            known, asked = (
                resized(open_masks(spec, split, data_dir=FLAGS.data_dir), shape)
                for split in ("train", test_split)
            )
        measures["cells_miou"] = functools.partial(
            dense_linear_miou,
            backbone,
            mask_pipeline.image_batches(known, preprocess, _MASK_BATCH_SIZE),
            mask_pipeline.image_batches(asked, preprocess, _MASK_BATCH_SIZE),
            len(known.class_names),
            strategy=strategy,
        )
    if not measures:
        raise FlagError(
            f"--eval_every_epochs={FLAGS.eval_every_epochs}: needs --eval_train_dataset and "
            "--eval_test_dataset, or --eval_mask_dataset"
        )
    return Monitor(
        lambda: {name: measure() for name, measure in measures.items()},
        FLAGS.eval_every_epochs * FLAGS.steps_per_epoch,
    )
