"""Options of a detection."""

import dataclasses

from pixpro_keras import detection
from pixpro_keras.cli.options.fine_tuning_options import FineTuningOptions
from pixpro_keras.cli.options.option_fields import option, with_default
from pixpro_keras.cli.options.split_options import SplitOptions


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
    num_rois: int = option(512, "Proposals per image that the heads are trained on.", above=0)
    max_proposals: int | None = option(
        None,
        "Largest number of proposals per image. Default, and most that is used: 2000 in the training of a "
        "C4 detector, else 1000. With fewer than about twice --num_rois, places of the heads stay empty, "
        "which their batch norm counts too.",
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
