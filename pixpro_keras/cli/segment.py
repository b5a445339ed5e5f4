"""Semantic segmentation on a pre-trained backbone: fine-tuned FCN, or a dense linear probe.

python experiments/segment.py --flagfile=experiments/configs/transfer/camvid_fcn.cfg \
    --dataset=folder:PATH --weights=runs/mine --workdir=runs/segment

`--frozen` trains a linear classifier alone, on the frozen features; with `--solver=lbfgs` it has no
learning rate and is fitted in one go. Writes `segment.md`, `segment.json` and `segment.png` to
`--workdir`. The same command continues a run that was cut off.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from absl import flags
from keras import ops

from pixpro_keras.backbones.levels import level_network
from pixpro_keras.cli.shared import (
    cluster_flags,
    common_flags,
    eval_flags,
    labelled,
    training_flags,
    training_job,
)
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame, must_be_positive
from pixpro_keras.data.labels import read_presence, select, stratified_images
from pixpro_keras.data.sampler import name_images
from pixpro_keras.evaluation.confusion_matrix import evaluate_segmentation
from pixpro_keras.evaluation.dense_linear_probe import fit_dense_linear_probe
from pixpro_keras.evaluation.replicas import over_replicas
from pixpro_keras.segmentation.fcn import FCN
from pixpro_keras.segmentation.mask_pipeline import CropConfig, image_batches, make_crops
from pixpro_keras.segmentation.mask_source import MaskSource, open_masks, resized
from pixpro_keras.segmentation.sliding_window import check_stride, sliding_window_inference
from pixpro_keras.types import Tensor
from pixpro_keras.visualize.figures import save_figure
from pixpro_keras.visualize.segmentation import draw_segmentations

flags.DEFINE_string(
    "dataset",
    None,
    "Images and masks: folder:PATH (PATH/train/images, PATH/train/labels, the same for val; or "
    "PATH/images and PATH/labels), voc:PATH, cityscapes:PATH, tfds:NAME[/config], scenes.",
    required=True,
)
flags.DEFINE_string("test_dataset", None, "Images and masks of the test. Default: --dataset.")
flags.DEFINE_string("train_split", "train", "Split that is trained on.")
flags.DEFINE_string(
    "test_split",
    None,
    "Split that is segmented at the end. Default: val; validation of tfds: and scenes.",
)
flags.DEFINE_list(
    "resize",
    None,
    "Height,width in pixels to which all images and masks are scaled first. Default: as they are.",
)
flags.DEFINE_boolean("frozen", False, "Train a linear classifier alone, on the frozen backbone.")
flags.DEFINE_enum(
    "solver",
    "sgd",
    ["sgd", "lbfgs"],
    "How the classifier of --frozen is found: sgd on random crops, or multinomial logistic regression "
    "of the cells of all whole training images, which are in memory together.",
)
flags.DEFINE_enum("level", "c5", ["c2", "c3", "c4", "c5"], "Map that is classified.")
flags.DEFINE_integer("crop_size", 769, "Side of training crops, and of test windows, in pixels.")
flags.DEFINE_integer("window_stride", 513, "Pixels from one test window to the next.")
flags.DEFINE_boolean(
    "whole_images", False, "Segment test images whole, instead of window by window."
)
flags.DEFINE_float("min_scale", 0.5, "Smallest factor by which training images are scaled.")
flags.DEFINE_float("max_scale", 2.0, "Largest factor by which training images are scaled.")
must_be_positive("crop_size", "window_stride", "min_scale", "max_scale")
_NUM_PICTURES = 4
_BATCH_SIZE = 4  # test windows, or images, that each replica takes together
_DEFAULTS = {
    "workdir": "runs/segment",
    "optimizer": "sgd",
    "base_learning_rate": 0.01,
    "learning_rate_scaling": "none",
    "weight_decay": 1e-4,
    "warmup_epochs": 0.0,
    "batch_size": 16,
    "output_stride": "16",
}
for _name, _value in _DEFAULTS.items():
    FLAGS.set_default(_name, _value)


def _main(argv: list[str]) -> int:
    """Runs the job and returns its exit code."""
    del argv
    keras.mixed_precision.set_global_policy(FLAGS.precision)
    keras.utils.set_random_seed(FLAGS.seed)
    workdir = common_flags.prepare_workdir()
    strategy, replica_batch = training_job.start_devices()
    if FLAGS.solver == "lbfgs" and not FLAGS.frozen:
        raise FlagError("--solver=lbfgs: is for --frozen")
    with blame("window_stride"):
        check_stride(FLAGS.window_stride, FLAGS.crop_size)
    with blame("min_scale", "max_scale"):
        config = CropConfig(FLAGS.crop_size, (FLAGS.min_scale, FLAGS.max_scale), FLAGS.seed)
    with cluster_flags.chief_first(strategy):
        train, test = open_parts()
    num_train = train.num_examples
    if FLAGS.label_fraction < 1:
        with labelled.blame_images(train.name):
            presence = read_presence(train)
        chosen = stratified_images(presence, FLAGS.label_fraction, FLAGS.seed)
        num_train = len(chosen)
        train = select(train, eval_flags.fill_batch(chosen) if FLAGS.solver == "sgd" else chosen)

    num_classes = len(train.class_names)
    synchronized = strategy.num_replicas_in_sync > 1
    if FLAGS.solver == "lbfgs":
        eval_flags.check_one_machine(strategy, "--solver=lbfgs")
        with strategy.scope():
            backbone, preprocess, name = eval_flags.load_backbone()
        with blame("level"):
            network = level_network(backbone, FLAGS.level)
        common_flags.write_flags(workdir)
        batches = image_batches(train, preprocess, whole_batch_size(strategy))
        with labelled.blame_images(train.name):
            classifier = fit_dense_linear_probe(network, batches, num_classes, strategy=strategy)
        finish(
            workdir,
            name,
            train.class_names,
            num_train,
            classifier.logits,
            preprocess,
            test,
            strategy,
        )
        return 0

    steps_per_epoch = training_job.resolve_steps_per_epoch(train.num_examples)
    with strategy.scope():
        backbone, preprocess, name = eval_flags.load_backbone(synchronized)
        with blame("level"):
            task = FCN(
                backbone,
                num_classes,
                FLAGS.frozen,
                FLAGS.level,
                FLAGS.bn_momentum,
                synchronized,
                accumulate_steps=FLAGS.accumulate_steps,
            )
        optimizer = training_flags.build_optimizer(steps_per_epoch)
        task.compile(optimizer, jit_compile=FLAGS.jit_compile)
        task.optimizer.build(task.trainable_variables)
    identity = {
        "backbone": name,
        "classes": num_classes,
        "frozen": FLAGS.frozen,
        "level": FLAGS.level,
        "output_stride": FLAGS.output_stride,
    }
    checkpoints, first_step = training_job.open_checkpoints(workdir, strategy, task, identity)

    def crops(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return make_crops(
            train,
            config,
            global_batch_size=FLAGS.batch_size,
            replica_batch_size=replica_batch,
            preprocess=preprocess,
            start_step=first_step,
            input_pipeline_id=context.input_pipeline_id,
            num_input_pipelines=context.num_input_pipelines,
        )

    with labelled.blame_images(train.name):
        exit_code = training_job.run_training(
            workdir,
            strategy,
            task,
            checkpoints,
            crops,
            name_images=lambda step: name_images(train, FLAGS.seed, FLAGS.batch_size, step),
        )
    if exit_code is None:
        with cluster_flags.chief_alone(strategy) as is_chief:
            if is_chief:
                names = train.class_names
                finish(workdir, name, names, num_train, task.logits, preprocess, test, strategy)
    return exit_code or 0


def open_parts() -> tuple[MaskSource, MaskSource]:
    """The training and the test images.

    Raises:
        FlagError: if they cannot be opened, or do not go together.
    """
    test_flag = "test_dataset" if FLAGS.test_dataset else "dataset"
    test_spec: str = FLAGS.test_dataset or FLAGS.dataset
    if FLAGS.test_split is None:
        is_tfds = test_spec.startswith(("tfds:", "scenes"))
        FLAGS["test_split"].value = "validation" if is_tfds else "val"
    with blame("dataset", "train_split"):
        train = open_masks(FLAGS.dataset, FLAGS.train_split, data_dir=FLAGS.data_dir)
    with blame(test_flag, "test_split"):
        test = open_masks(test_spec, FLAGS.test_split, data_dir=FLAGS.data_dir)
        if train.describe(0) == test.describe(0):
            raise ValueError("these are the training images")
        num_more = len(test.class_names) - len(train.class_names)
        if num_more > 0 or test.class_names != train.class_names[: len(test.class_names)]:
            raise ValueError(f"other classes than the training images': {test.class_names}")
    shape = labelled.image_shape("resize")
    if shape is not None:
        train, test = resized(train, shape), resized(test, shape)
    return train, test


def whole_batch_size(strategy: tf.distribute.Strategy) -> int:
    """Whole images that can be batched: one, unless all are of one size."""
    return _BATCH_SIZE * strategy.num_replicas_in_sync if FLAGS.resize else 1


def finish(
    workdir,
    name: str,
    class_names: tuple[str, ...],
    num_train: int,
    logits: Callable[[Tensor, tuple[int, int]], Tensor],
    preprocess: Callable[[Tensor], Tensor],
    test: MaskSource,
    strategy: tf.distribute.Strategy,
) -> None:
    """Segments the test images; writes scores and pictures.

    Args:
        workdir: where to.
        name: what the backbone is called.
        class_names: of the training images.
        num_train: training images.
        logits: `(B, H, W, 3)` images and a size to scores of that size.
        preprocess: from RGB in 0..255 to the backbone's convention.
        test: images and masks.
        strategy: whose replicas on this machine share the work.
    """
    size, batch_size = FLAGS.crop_size, _BATCH_SIZE * strategy.num_replicas_in_sync
    if FLAGS.whole_images:
        batch_size = whole_batch_size(strategy)
        segment = over_replicas(
            lambda images: ops.argmax(logits(images, ops.shape(images)[1:3]), axis=-1),
            batch_size,
            strategy,
        )
        batches = image_batches(test, preprocess, batch_size)
    else:
        predict = over_replicas(
            lambda windows: ops.softmax(logits(windows, (size, size)), axis=-1),
            batch_size,
            strategy,
        )
        batches = image_batches(test, preprocess)

        def segment(images: Tensor) -> np.ndarray:
            stride = FLAGS.window_stride
            probabilities = [
                sliding_window_inference(predict, image, size, stride, batch_size)
                for image in images
            ]
            return np.stack(probabilities).argmax(axis=-1)

    with labelled.blame_images(test.name):
        scores = evaluate_segmentation(segment, batches, len(class_names)).scores()
    images, masks, predictions = [], [], []
    chosen = np.linspace(0, test.num_examples - 1, _NUM_PICTURES).astype(np.int64)
    for image, mask in tf.data.Dataset.from_tensor_slices(np.unique(chosen)).map(test.read):
        images.append(image.numpy())
        masks.append(mask.numpy())
        predictions.append(segment(preprocess(image)[None])[0])
    figure = draw_segmentations(images, masks, predictions, class_names)
    save_figure(figure, workdir / "segment.png")
    per_class = zip(class_names, scores.iou, strict=True)
    eval_flags.write_results(
        workdir,
        "segment",
        {
            "backbone": name,
            "training images": num_train,
            "test images": test.num_examples,
            "mIoU": scores.miou,
            "pixel accuracy": scores.pixel_accuracy,
        }
        | {class_name: iou for class_name, iou in per_class if np.isfinite(iou)},
    )


def main() -> None:
    """Runs the command."""
    common_flags.run(_main)
