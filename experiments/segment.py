"""Semantic segmentation on a pre-trained backbone: fine-tuned FCN, or a dense linear probe.

python experiments/segment.py --flagfile=experiments/configs/transfer/camvid_fcn.cfg \
    --dataset=folder:PATH --weights=runs/mine --workdir=runs/segment

`--frozen` trains a linear classifier alone, on the frozen features. Writes `segment.md`, `segment.json`
and `segment.png` to `--workdir`. The same command continues a run that was cut off.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import common_flags
import eval_flags
import keras
import numpy as np
import tensorflow as tf
import training_flags
import training_job
from absl import flags
from common_flags import FLAGS, blame, must_be_positive

from pixpro_keras.data.mask_pipeline import CropConfig, make_crops
from pixpro_keras.data.masks import open_masks
from pixpro_keras.evaluation.segmentation import fcn, inference, metrics
from pixpro_keras.training.strategy import is_chief
from pixpro_keras.visualize.figures import save_figure
from pixpro_keras.visualize.segmentation import draw_segmentations

flags.DEFINE_string(
    "dataset",
    None,
    "Images and masks: folder:PATH (PATH/train/images, PATH/train/labels, the same for val), voc:PATH, "
    "cityscapes:PATH.",
    required=True,
)
flags.DEFINE_string("train_split", "train", "Split that is trained on.")
flags.DEFINE_string("test_split", "val", "Split that is segmented at the end.")
flags.DEFINE_boolean("frozen", False, "Train a linear classifier alone, on the frozen backbone.")
flags.DEFINE_enum("level", "c5", ["c2", "c3", "c4", "c5"], "Map that is classified.")
flags.DEFINE_integer("crop_size", 769, "Side of training crops, and of test windows, in pixels.")
flags.DEFINE_integer("window_stride", 513, "Pixels from one test window to the next.")
flags.DEFINE_float("min_scale", 0.5, "Smallest factor by which training images are scaled.")
flags.DEFINE_float("max_scale", 2.0, "Largest factor by which training images are scaled.")
must_be_positive("crop_size", "window_stride", "min_scale", "max_scale")
_NUM_PICTURES = 4
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


def main(argv: list[str]) -> int:
    """Runs the job and returns its exit code."""
    del argv
    keras.mixed_precision.set_global_policy(FLAGS.precision)
    keras.utils.set_random_seed(FLAGS.seed)
    workdir = common_flags.prepare_workdir()
    strategy, replica_batch = training_job.start_devices()
    with blame("dataset", "train_split"):
        train = open_masks(FLAGS.dataset, FLAGS.train_split)
    with blame("dataset", "test_split"):
        test = open_masks(FLAGS.dataset, FLAGS.test_split)
    with blame("window_stride"):
        inference.check_stride(FLAGS.window_stride, FLAGS.crop_size)
    with blame("min_scale", "max_scale"):
        config = CropConfig(FLAGS.crop_size, (FLAGS.min_scale, FLAGS.max_scale), FLAGS.seed)
    steps_per_epoch = training_job.resolve_steps_per_epoch(train.num_examples)

    synchronized = strategy.num_replicas_in_sync > 1
    with strategy.scope():
        backbone, preprocess, name = eval_flags.load_backbone()
        if FLAGS.weights is not None and FLAGS.output_stride == "16":
            with blame("output_stride", "weights"):
                backbone = fcn.dilate(backbone, eval_flags.network_name(backbone), synchronized)
        with blame("level"):
            task = fcn.FCN(
                backbone,
                len(train.class_names),
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
        "classes": len(train.class_names),
        "frozen": FLAGS.frozen,
        "level": FLAGS.level,
    }
    checkpoints, first_step = training_job.open_checkpoints(workdir, strategy, task, identity)

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
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

    exit_code = training_job.run_training(workdir, strategy, task, checkpoints, batches)
    if exit_code is None and is_chief(strategy):
        finish(workdir, name, task, preprocess, train, test)
    return exit_code or 0


def finish(workdir, name, task, preprocess, train, test) -> None:
    """Segments the test images; writes scores and pictures."""
    size, num_classes = FLAGS.crop_size, len(train.class_names)

    @tf.function
    def predict(windows):
        return task.logits(windows, (size, size))

    confusion = metrics.Confusion(num_classes)
    images, masks, predictions = [], [], []
    data = tf.data.Dataset.range(test.num_examples).map(test.reader(), num_parallel_calls=2)
    for index, (image, mask) in enumerate(data.prefetch(2)):
        probabilities = inference.slide(
            predict, preprocess(image), size, FLAGS.window_stride, num_classes
        )
        prediction = probabilities.argmax(axis=-1)
        confusion.add(mask.numpy(), prediction)
        if index % -(-test.num_examples // _NUM_PICTURES) == 0:
            images.append(image.numpy())
            masks.append(mask.numpy())
            predictions.append(prediction)
    figure = draw_segmentations(images, masks, predictions, train.class_names)
    save_figure(figure, workdir / "segment.png")
    scores = confusion.scores()
    per_class = zip(train.class_names, scores.iou, strict=True)
    eval_flags.write_results(
        workdir,
        "segment",
        {
            "backbone": name,
            "training images": train.num_examples,
            "test images": test.num_examples,
            "mIoU": scores.miou,
            "pixel accuracy": scores.pixel_accuracy,
        }
        | {class_name: iou for class_name, iou in per_class if np.isfinite(iou)},
    )


if __name__ == "__main__":
    common_flags.run(main)
