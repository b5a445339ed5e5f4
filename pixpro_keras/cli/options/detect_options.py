"""Options of a detection, and the images and boxes that they name."""

import dataclasses

from absl import logging

from pixpro_keras import detection
from pixpro_keras.cli.options.evaluation_options import fill_batch
from pixpro_keras.cli.options.fine_tuning_options import FineTuningOptions
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.option_fields import FlagError, option, with_default
from pixpro_keras.cli.options.split_options import SplitOptions, random_split, refuse_fraction
from pixpro_keras.data.labels import warn_of_shared
from pixpro_keras.detection import box_pipeline
from pixpro_keras.detection.annotations import WHOLE
from pixpro_keras.detection.box_source import (
    BoxSource,
    class_presence,
    for_testing,
    for_training,
    pick,
    with_classes,
)
from pixpro_keras.detection.datasets import is_flat, open_boxes
from pixpro_keras.segmentation.class_presence import stratified_images


def _are_sides(values: tuple[str, ...]) -> bool:
    """True for one or more numbers of pixels."""
    return bool(values) and all(value.isdecimal() and int(value) for value in values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectOptions(SplitOptions, FineTuningOptions):
    """Options of the detection."""

    model: str = option("faster_rcnn_c4", "The detector.", choices=detection.available())
    dataset: str = option(
        None,
        "Images and boxes: voc:PATH (contains VOC2007, VOC2012), coco:PATH, tfds:voc/2007 and similar, or"
        " scenes. A folder with a single COCO file, or with VOC's XML files and no ImageSets, is split by"
        " --val_fraction.",
        is_required=True,
    )
    train_split: str = option("2007_trainval,2012_trainval", "Training split; train2017 for COCO.")
    test_split: str = option("2007_test", "Test split; val2017 for COCO.")
    clip_boxes: bool = option(
        False,
        "Clip boxes that are far or mostly outside of their image, and drop those fully outside, instead "
        "of raising an error.",
    )
    short_sides: tuple[str, ...] = option(
        tuple(str(side) for side in range(480, 801, 32)),
        "Short sides of training images in pixels; each image gets one of them at random.",
        check=_are_sides,
        must="be sides in pixels, such as 640,672,704",
    )
    test_short_side: int = option(800, "Short side of test images in pixels.", above=0)
    max_side: int = option(1333, "Longest side of any image in pixels.", above=0)
    num_canvases: int = option(
        12,
        "Largest number of sizes to which images are padded. Each is traced once; more sizes need less "
        "padding.",
        above=0,
    )
    max_boxes: int = option(100, "Largest number of objects used per training image.", above=0)
    num_rois: int = option(512, "Proposals per image that the heads are trained on.", minimum=4)
    max_proposals: int | None = option(
        None,
        "Largest number of proposals per image. Default, and most that is used: 2000 in the training of a "
        "C4 detector, else 1000. With fewer than about twice --num_rois, a part of the heads' inputs is "
        "padding, which their batch norm counts too.",
        above=0,
    )
    bn_batches: int = option(
        200,
        "Training batches of --batch_size images from which the batch-norm statistics are recomputed "
        "before a test (precise batch norm).",
        minimum=0,
    )
    test_every_iterations: int = option(
        0,
        "Steps between tests during the training, whose AP is logged with the loss; 0: none. Must be a "
        "multiple of --log_every_steps.",
        minimum=0,
    )
    workdir: str = with_default(FineTuningOptions, "workdir", "runs/detect")
    optimizer: str = with_default(FineTuningOptions, "optimizer", "sgd")
    # 0.02 at a batch of 16.
    base_learning_rate: float = with_default(FineTuningOptions, "base_learning_rate", 0.32)
    weight_decay: float = with_default(FineTuningOptions, "weight_decay", 1e-4)
    decay_norms: bool = with_default(FineTuningOptions, "decay_norms", False)
    warmup_fraction: float = with_default(FineTuningOptions, "warmup_fraction", 0.001)
    batch_size: int = with_default(FineTuningOptions, "batch_size", 16)


def check_training(options: DetectOptions) -> None:
    """Checks the flags that need neither network nor data.

    Raises:
        FlagError: naming the flags that do not go together.
    """
    if options.test_every_iterations % options.log_every_steps:
        raise FlagError(
            f"--test_every_iterations={options.test_every_iterations}: must be a multiple of "
            f"--log_every_steps={options.log_every_steps}"
        )
    if options.steps_per_execution > 1 and options.num_canvases > 1:
        raise FlagError(
            f"--steps_per_execution={options.steps_per_execution}: several steps in one call need images of "
            f"one size, so --num_canvases=1 instead of {options.num_canvases}"
        )


def open_data(options: DetectOptions) -> tuple[BoxSource, BoxSource]:
    """Returns the training and the test images."""
    with_masks = detection.predicts_masks(options.model)

    def open_split(split: str) -> BoxSource:
        return open_boxes(
            options.dataset, split, data_dir=options.data_dir, clip_boxes=options.clip_boxes
        )

    named = {"train_split", "test_split"} & options.on_command_line
    if not named and is_flat(options.dataset, options.train_split, options.test_split):
        with flag_errors(options, "dataset", "val_fraction", "model"):
            whole = open_split(WHOLE)
            parts = random_split(options, whole.num_examples, options.dataset)
            train, test = (pick(whole, part.tolist()) for part in parts)
            train, test = for_training(train, with_masks), for_testing(test, with_masks)
    else:
        refuse_fraction(options, f"--dataset={options.dataset}")
        with flag_errors(options, "dataset", "train_split", "model"):
            train = for_training(open_split(options.train_split), with_masks)
        with flag_errors(options, "dataset", "test_split"):
            test = with_classes(open_split(options.test_split), train.class_names)
            test = for_testing(test, with_masks)
    warn_of_shared(train, test)
    return train, test


def draw_labeled(options: DetectOptions, train: BoxSource) -> tuple[BoxSource, int]:
    """Returns the share `--label_fraction` of the training images, at least a batch, and their number.

    Fewer images than a batch are repeated; the number is that of different ones.
    """
    if options.label_fraction == 1:
        return train, train.num_examples
    chosen = stratified_images(class_presence(train), options.label_fraction, options.seed)
    filled = fill_batch(chosen, options.label_fraction, options.batch_size)
    return pick(train, filled.tolist()), len(chosen)


def build_box_config(options: DetectOptions) -> box_pipeline.BoxConfig:
    """Returns the configuration of training images."""
    with flag_errors(options, "short_sides", "max_side"):
        config = box_pipeline.BoxConfig(
            tuple(int(side) for side in options.short_sides),
            options.max_side,
            options.max_boxes,
            detection.predicts_masks(options.model),
            options.seed,
            options.num_canvases,
        )
    smallest, largest = min(config.short_sides), max(config.short_sides)
    if not smallest <= options.test_short_side <= largest:
        logging.warning(
            "--test_short_side=%d: objects have other sizes in the test than in training, where short sides "
            "are %d to %d",
            options.test_short_side,
            smallest,
            largest,
        )
    return config
