r"""Semantic segmentation on a pre-trained backbone: fine-tuned FCN, or a dense linear probe.

pixpro-segment --flagfile=camvid_fcn.cfg \
    --dataset=folder:PATH --weights=runs/mine --workdir=runs/segment

`--frozen` trains a linear classifier alone, on the frozen features; with `--solver=lbfgs` it has no
learning rate and is fitted in one go. Writes `segment.md`, `segment.json` and `segment.png` to
`--workdir`. The same command continues an interrupted run.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from keras import ops

from pixpro_keras.backbones.levels import level_network
from pixpro_keras.cli.options.evaluation_options import (
    EvaluatedBackbone,
    check_one_machine,
    read_backbone,
    trained_weights,
)
from pixpro_keras.cli.options.fine_tuning_options import slow_down_backbone
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.image_errors import image_errors
from pixpro_keras.cli.options.parsing import write_flags
from pixpro_keras.cli.options.segment_options import (
    SegmentOptions,
    build_crop_config,
    check_sizes,
    check_training,
    draw_labeled,
    open_parts,
    resolve_test_split,
)
from pixpro_keras.cli.options.training_options import compile_task, resolve_lengths
from pixpro_keras.cli.shared import command, training_job
from pixpro_keras.cli.shared.comparison import run_each
from pixpro_keras.cli.shared.header import describe_devices, header_text
from pixpro_keras.cli.shared.opened_run import DRY_RUN, open_run, run_training, write_at_end
from pixpro_keras.cli.shared.result_files import TRAINING_FILES, write_results
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.sampler import name_images
from pixpro_keras.evaluation.confusion_matrix import evaluate_segmentation
from pixpro_keras.evaluation.dense_linear_probe import fit_dense_linear_probe
from pixpro_keras.evaluation.replicas import over_replicas
from pixpro_keras.ops import argmax
from pixpro_keras.segmentation.fcn import FCN
from pixpro_keras.segmentation.mask_pipeline import (
    MEAN_COLOR,
    CropConfig,
    make_crops,
    readable_batches,
)
from pixpro_keras.segmentation.mask_source import MaskSource
from pixpro_keras.segmentation.sliding_window import check_stride, sliding_window_inference
from pixpro_keras.training.run_config import RunResult
from pixpro_keras.training.workers import chief_first
from pixpro_keras.types import Tensor
from pixpro_keras.utils.bars import with_bar
from pixpro_keras.visualize.figures import save_figure
from pixpro_keras.visualize.segmentation import draw_segmentations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Logits = Callable[[Tensor, tuple[int, int]], Tensor]

_NUM_PICTURES = 4
_BATCH_SIZE = 4  # Test windows, or images, per replica and call.


def run(options: SegmentOptions) -> RunResult:
    """Trains and tests a segmenter, on one backbone or on each of `--compare`."""
    return run_each(options, training_job.started(train_and_test), "segment")


def train_and_test(options: SegmentOptions, job: training_job.StartedJob) -> RunResult:
    """Trains and tests a segmenter in the directory of a job that has been started."""
    check_training(options)
    if options.solver == "lbfgs":
        check_one_machine(job.strategy, options.strategy, "--solver=lbfgs")
        # In a dry run `workdir` is a temporary folder.
        command.refuse_run(pathlib.Path(options.workdir).expanduser())
        options = options.replace(whole_images=True)  # It is fitted to them.
    if not options.whole_images:
        with flag_errors(options, "window_stride", "crop_size"):
            check_stride(options.window_stride, options.crop_size)
    crop_config = build_crop_config(options)
    with job.strategy.scope():  # Before the images, since opening a large set takes long.
        backbone, options = read_backbone(options)
    check_sizes(options)
    options = resolve_test_split(options)
    with chief_first(job.strategy):
        train, test = open_parts(options)
    train, num_train = draw_labeled(options, train)
    if options.solver == "lbfgs":
        return _fit_dense_linear_probe(options, job, backbone, train, test, num_train)
    return _train_fcn(options, job, backbone, crop_config, train, test, num_train)


def _train_fcn(
    options: SegmentOptions,
    job: training_job.StartedJob,
    backbone: EvaluatedBackbone,
    crop_config: CropConfig,
    train: MaskSource,
    test: MaskSource,
    num_train: int,
) -> RunResult:
    """Trains an FCN, or its classifier alone, by SGD and tests it."""
    num_classes = len(train.class_names)
    options = resolve_lengths(options, train.num_examples)
    with job.strategy.scope():
        task = _build_fcn(options, backbone, num_classes)
        backbone_name = slow_down_backbone(options, task, backbone)
    kind = "linear classifier of frozen features" if options.frozen else "fine-tuning"
    opened = open_run(
        job,
        options,
        task,
        {
            **trained_weights(options, backbone),
            "classes": num_classes,
            "frozen": options.frozen,
            "level": options.level,
            "output_stride": options.output_stride,
        },
        train,
        header={"task": f"segmentation, {kind}", "backbone": backbone_name},
        data=options.dataset,
        num_images=num_train,
    )
    broken = BrokenImages(train, options.max_broken_share)
    make_batches = functools.partial(
        make_crops,
        train,
        crop_config,
        global_batch_size=options.batch_size,
        replica_batch_size=job.replica_batch_size,
        preprocess=backbone.preprocess,
        broken=broken,
    )
    with image_errors(train):
        result = run_training(
            opened,
            make_batches,
            broken=broken,
            name_images=lambda step: name_images(
                train, options.seed, options.batch_size, step, broken.names
            ),
        )
    names = train.class_names
    write_at_end(
        job, result, lambda: finish(options, job, backbone, task.logits, names, num_train, test)
    )
    return result


def _build_fcn(options: SegmentOptions, backbone: EvaluatedBackbone, num_classes: int) -> FCN:
    """Returns the segmenter, compiled. In the strategy's scope."""
    with flag_errors(options, "weights", "backbone", "level", "align_corners"):
        task = FCN(
            backbone.network,
            num_classes,
            options.frozen,
            options.level,
            options.bn_momentum,
            options.align_corners,
            accumulate_steps=options.accumulate_steps,
        )
    compile_task(options, task)
    return task


def _fit_dense_linear_probe(
    options: SegmentOptions,
    job: training_job.StartedJob,
    backbone: EvaluatedBackbone,
    train: MaskSource,
    test: MaskSource,
    num_train: int,
) -> RunResult:
    """Fits the dense linear probe by L-BFGS and tests it."""
    with flag_errors(options, "level"):
        network = level_network(backbone.network, options.level)
    if options.dry_run:
        rows = {
            "task": "segmentation, dense linear probe that is fitted in one go, without steps",
            "backbone": backbone.label,
            "device": describe_devices(job.strategy),
            "data": f"{options.dataset}, {num_train} images",
            "workdir": options.workdir,
        }
        print(f"{header_text(rows)}\n{DRY_RUN}")
        return RunResult(steps=0, is_dry_run=True)
    write_flags(options, job.workdir)
    broken = BrokenImages(train, options.max_broken_share)
    batch_size = whole_batch_size(options, job.strategy)
    batches = readable_batches(train, backbone.preprocess, batch_size, broken)
    with flag_errors(options, "dataset", "label_fraction"):
        classifier = fit_dense_linear_probe(
            network, batches, len(train.class_names), strategy=job.strategy
        )
    num_train -= len(broken.names)
    names = train.class_names
    finish(options, job, backbone, classifier.logits, names, num_train, test)
    return RunResult(steps=0)


def whole_batch_size(options: SegmentOptions, strategy: tf.distribute.Strategy) -> int:
    """Returns the number of whole images in a batch: one, unless all have the same size."""
    return _BATCH_SIZE * strategy.num_replicas_in_sync if options.resize else 1


def make_segment(
    options: SegmentOptions,
    backbone: EvaluatedBackbone,
    logits: Logits,
    strategy: tf.distribute.Strategy,
) -> Callable[[Tensor], np.ndarray]:
    """Returns a function of preprocessed images `(B, H, W, 3)` to their classes `(B, H, W)`.

    The arguments are those of `finish`.
    """
    size = options.crop_size
    if options.whole_images:
        return over_replicas(
            lambda images: argmax(logits(images, ops.shape(images)[1:3]), axis=-1),
            whole_batch_size(options, strategy),
            strategy,
        )
    batch_size = _BATCH_SIZE * strategy.num_replicas_in_sync
    predict = over_replicas(
        lambda windows: ops.softmax(logits(windows, (size, size)), axis=-1), batch_size, strategy
    )
    # As around crops.
    beyond = backbone.preprocess(tf.constant(MEAN_COLOR, shape=(1, 1, 3)))[0, 0]

    def segment(images: Tensor) -> np.ndarray:
        stride = options.window_stride
        probabilities = [
            sliding_window_inference(predict, image, size, stride, batch_size, beyond)
            for image in images
        ]
        return np.stack(probabilities).argmax(axis=-1)

    return segment


def draw(
    test: MaskSource, segment: Callable[[Tensor], np.ndarray], class_names: tuple[str, ...]
) -> "Figure":
    """Draws a few test images, their masks and predictions; broken images are left out."""
    images, masks, predictions = [], [], []
    chosen = np.linspace(0, test.num_examples - 1, _NUM_PICTURES).astype(np.int64)
    examples = tf.data.Dataset.from_tensor_slices(np.unique(chosen)).map(test.read)
    for image, mask in examples.ignore_errors():  # Broken images have been reported.
        images.append(image.numpy())
        masks.append(mask.numpy())
        predictions.append(segment(image))
    return draw_segmentations(images, masks, predictions, class_names)


def finish(
    options: SegmentOptions,
    job: training_job.StartedJob,
    backbone: EvaluatedBackbone,
    logits: Logits,
    class_names: tuple[str, ...],
    num_train: int,
    test: MaskSource,
) -> None:
    """Segments the test images; writes scores and pictures.

    Args:
        options: resolved.
        job: devices and directory.
        backbone: backbone of the segmenter.
        logits: function of preprocessed images and a size to scores of that size.
        class_names: classes of the training images.
        num_train: number of training images.
        test: images and masks.
    """
    images_per_call = whole_batch_size(options, job.strategy) if options.whole_images else 1
    segment = make_segment(options, backbone, logits, job.strategy)
    broken = BrokenImages(test, options.max_broken_share)
    batches = readable_batches(test, backbone.preprocess, images_per_call, broken)
    with flag_errors(options, "test_dataset" if options.test_dataset else "dataset"):
        shown = with_bar(batches, "segmenting", test.num_examples, size=images_per_call)
        scores = evaluate_segmentation(segment, shown, len(class_names)).scores()
    figure = draw(test, lambda image: segment(backbone.preprocess(image)[None])[0], class_names)
    save_figure(figure, job.workdir / "segment.png")
    per_class = zip(class_names, scores.iou, strict=True)
    write_results(
        job.workdir,
        "segment",
        {
            "backbone": backbone.label,
            "training images": num_train,
            "test images": test.num_examples - len(broken.names),
            "mIoU": scores.miou if np.isfinite(scores.miou) else None,  # JSON has no NaN.
            "pixel accuracy": scores.pixel_accuracy,
        }
        | {class_name: iou if np.isfinite(iou) else None for class_name, iou in per_class},
        ({} if options.solver == "lbfgs" else TRAINING_FILES)
        | {"segment.png": "test images, their masks and the predictions"},
    )


def main() -> None:
    """Runs the command."""
    training_job.main(SegmentOptions, run, __doc__ or "")
