"""Object detection and instance segmentation on a pre-trained backbone, fine-tuned.

python experiments/detect.py --flagfile=experiments/configs/transfer/bccd_c4.cfg \
    --dataset=voc:PATH --weights=runs/mine --workdir=runs/detect

Writes to `--workdir`: `detect.md` and `detect.json` (AP), `detections.json` (COCO's format),
`detect.png`, and the SavedModel `export/detector`: an image in, boxes out. With `--test_every_iterations`
the AP while training goes to `metrics.jsonl`, beside the losses. The same command continues a run that
was cut off.
"""

import contextlib
import itertools
import json
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from absl import flags, logging

from pixpro_keras import detection
from pixpro_keras.cli.shared import (
    cluster_flags,
    common_flags,
    eval_flags,
    labelled,
    training_flags,
    training_job,
)
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame, must_be_positive
from pixpro_keras.detection import box_pipeline, instance_masks
from pixpro_keras.detection.box_source import COCO, VOC07, BoxSource, for_training
from pixpro_keras.detection.coco_ap import coco_scores
from pixpro_keras.detection.datasets import open_boxes
from pixpro_keras.detection.detector import DetectorConfig
from pixpro_keras.detection.fpn_detector import FPNDetector, find_fpn
from pixpro_keras.detection.inference import Detections, detect_in_source, to_coco_results
from pixpro_keras.detection.serving import ServedDetector, save_detector
from pixpro_keras.detection.voc_ap import voc_scores
from pixpro_keras.evaluation.monitor import Monitor
from pixpro_keras.evaluation.precise_bn import apply_precise_bn, temporary_precise_bn
from pixpro_keras.layers.fpn import load_fpn
from pixpro_keras.utils.files import write_atomically
from pixpro_keras.visualize.detection import draw_detections
from pixpro_keras.visualize.figures import save_figure

flags.DEFINE_enum("model", "faster_rcnn_c4", detection.available(), "The detector.")
flags.DEFINE_string(
    "dataset",
    None,
    "Images and boxes: voc:PATH (which holds VOC2007, VOC2012), coco:PATH, tfds:voc/2007 and the "
    "like, or scenes.",
    required=True,
)
flags.DEFINE_string(
    "train_split", "2007_trainval,2012_trainval", "What is trained on; train2017 of COCO."
)
flags.DEFINE_string("test_split", "2007_test", "What is tested on; val2017 of COCO.")
flags.DEFINE_list(
    "short_sides",
    ["480", "512", "544", "576", "608", "640", "672", "704", "736", "768", "800"],
    "Lengths in pixels of which a training image's short side gets one at random.",
)
flags.DEFINE_integer("test_short_side", 800, "Length of a test image's short side in pixels.")
flags.DEFINE_integer("max_side", 1333, "Longest side of any image in pixels.")
flags.DEFINE_integer("max_boxes", 100, "Most objects of a training image that count.")
flags.DEFINE_integer("num_rois", 512, "Proposals per image that are trained on.")
flags.DEFINE_integer(
    "max_proposals", None, "Most proposals per image. Default: 2000 in training, 1000 in tests."
)
flags.DEFINE_integer(
    "bn_batches", 200, "Training batches from which batch norm is measured before a test.", 0
)
flags.DEFINE_integer(
    "test_every_iterations",
    0,
    "Steps between tests while training, whose AP is logged beside the loss; 0: none. "
    "A multiple of --log_every_steps.",
    0,
)
must_be_positive("test_short_side", "max_side", "max_boxes", "num_rois", "max_proposals")
_NUM_PICTURES = 6
_PICTURE_SCORE = 0.5
_DEFAULTS = {
    "workdir": "runs/detect",
    "optimizer": "sgd",
    # 0.02 at a batch of 16.
    "base_learning_rate": 0.32,
    "learning_rate_scaling": "linear",
    "weight_decay": 1e-4,
    "decay_norms": False,
    # As detectron2 begins where it trains from scratch: C4's head is a stage of the backbone.
    "zero_init_residual": False,
    "warmup_fraction": 0.001,
    "batch_size": 16,
}
for _name, _value in _DEFAULTS.items():
    FLAGS.set_default(_name, _value)


def _main(argv: list[str]) -> int:
    """Runs the job and returns its exit code."""
    del argv
    keras.mixed_precision.set_global_policy(FLAGS.precision)
    keras.utils.set_random_seed(FLAGS.seed)
    workdir = common_flags.prepare_workdir()
    if FLAGS.test_every_iterations % FLAGS.log_every_steps:
        raise FlagError(
            f"--test_every_iterations={FLAGS.test_every_iterations}: must be a multiple of "
            f"--log_every_steps={FLAGS.log_every_steps}"
        )
    strategy, replica_batch = training_job.start_devices()
    train, test = open_data()
    box_config = build_box_config()
    steps_per_epoch = training_job.resolve_steps_per_epoch(train.num_examples)

    with strategy.scope():
        task, preprocess, name = build_detector(
            len(train.class_names), strategy.num_replicas_in_sync > 1
        )
        optimizer = training_flags.build_optimizer(steps_per_epoch)
        task.compile(optimizer, jit_compile=FLAGS.jit_compile)
        task.optimizer.build(task.trainable_variables)
    logging.info(
        "Learning rate %g for batches of %d (--base_learning_rate=%g at 256, scaling: %s); %d steps",
        training_flags.peak_learning_rate(),
        FLAGS.batch_size,
        FLAGS.base_learning_rate,
        FLAGS.learning_rate_scaling,
        FLAGS.epochs * steps_per_epoch,
    )
    identity = {"model": FLAGS.model, "backbone": name, "classes": list(train.class_names)}
    checkpoints, first_step = training_job.open_checkpoints(workdir, strategy, task, identity)

    def batches(context: tf.distribute.InputContext, start: int = first_step) -> tf.data.Dataset:
        return box_pipeline.make_box_batches(
            train,
            box_config,
            global_batch_size=FLAGS.batch_size,
            replica_batch_size=replica_batch,
            preprocess=preprocess,
            start_step=start,
            input_pipeline_id=context.input_pipeline_id,
            num_input_pipelines=context.num_input_pipelines,
        )

    def few_batches() -> Iterator:
        data = batches(tf.distribute.InputContext(), 0)
        return itertools.islice(data, FLAGS.bn_batches)

    detect = tf.function(task.detect)  # once for all tests

    def measure() -> dict[str, float]:
        norm = temporary_precise_bn(task, few_batches())
        with norm if FLAGS.bn_batches else contextlib.nullcontext():
            return score(find_all(detect, preprocess, test)[0], test)

    def make_monitor() -> list[Monitor]:
        every = FLAGS.test_every_iterations
        return [Monitor(measure, every)] if every else []

    with labelled.blame_images(train.name):
        exit_code = training_job.run_training(
            workdir, strategy, task, checkpoints, batches, make_chief_callbacks=make_monitor
        )
    if exit_code is None:
        with cluster_flags.chief_alone(strategy) as is_chief:
            if is_chief:
                if FLAGS.bn_batches:
                    logging.info("Measuring batch norm on %d training batches", FLAGS.bn_batches)
                    apply_precise_bn(task, few_batches())
                scores = finish(workdir, task, detect, preprocess, test)
                facts = {
                    "model": FLAGS.model,
                    "backbone": name,
                    "training images": train.num_examples,
                    "test images": test.num_examples,
                }
                eval_flags.write_results(workdir, "detect", facts | scores)
    return exit_code or 0


def open_data() -> tuple[BoxSource, BoxSource]:
    """What is trained and tested on."""
    with_masks = detection.predicts_masks(FLAGS.model)
    with blame("dataset", "train_split", "model"):
        train = for_training(
            open_boxes(FLAGS.dataset, FLAGS.train_split, FLAGS.data_dir), with_masks
        )
    with blame("dataset", "test_split"):
        test = open_boxes(FLAGS.dataset, FLAGS.test_split, FLAGS.data_dir)
    if test.class_names != train.class_names:
        raise FlagError(f"--test_split={FLAGS.test_split}: other classes than in training")
    return train, test


def build_box_config() -> box_pipeline.BoxConfig:
    """How training images are made."""
    with blame("short_sides", "max_side"):
        return box_pipeline.BoxConfig(
            tuple(int(side) for side in FLAGS.short_sides),
            FLAGS.max_side,
            FLAGS.max_boxes,
            detection.predicts_masks(FLAGS.model),
            FLAGS.seed,
        )


def build_detector(num_classes: int, synchronized: bool):
    """The detector, its backbone's input convention, and what to call the backbone in a table."""
    backbone, preprocess, name = eval_flags.load_backbone(synchronized)
    with blame("num_rois"):
        config = DetectorConfig(
            num_classes,
            num_rois=FLAGS.num_rois,
            max_proposals=FLAGS.max_proposals,
            bn_momentum=FLAGS.bn_momentum,
            synchronized=synchronized,
        )
    with blame("model", "backbone"):
        task = detection.build(
            FLAGS.model, backbone, config, accumulate_steps=FLAGS.accumulate_steps
        )
    if isinstance(task, FPNDetector) and FLAGS.weights is not None:
        file = find_fpn(FLAGS.weights)
        if file is not None:
            with blame("weights"):
                missing = load_fpn(task.fpn, file)
            logging.info("FPN from %s, but for %s", file, ", ".join(missing) or "nothing")
    return task, preprocess, name


def finish(workdir, task, detect, preprocess, test: BoxSource) -> dict[str, float]:
    """Tests the detector; writes detections, pictures and the SavedModel; returns the scores."""
    found, pictures = find_all(detect, preprocess, test)
    rows = to_coco_results(found, test.image_ids, test.class_ids)
    write_atomically(workdir / "detections.json", json.dumps(rows).encode())
    save_figure(draw(pictures, found, test), workdir / "detect.png")
    served = ServedDetector(task, preprocess, test.class_names, *_test_sides())
    save_detector(served, workdir / "export" / "detector")
    return score(found, test)


def _test_sides() -> tuple[int, int]:
    return FLAGS.test_short_side, FLAGS.max_side


def find_all(detect, preprocess, test: BoxSource) -> tuple[list[Detections], dict[int, np.ndarray]]:
    """What a detector finds in each image, and a few of the images by their number."""
    found = [Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int32))] * test.num_examples
    pictures = {}
    every = -(-test.num_examples // _NUM_PICTURES)
    for index, image, one in detect_in_source(detect, test, preprocess, *_test_sides()):
        found[index] = one
        if index % every == 0:
            pictures[index] = image
    return found, pictures


def score(found: list[Detections], test: BoxSource) -> dict[str, float]:
    """AP by the rules of the images' data set."""
    if test.metric == COCO:
        return coco_scores(found, test)
    return voc_scores(found, test.objects, test.class_names, test.metric == VOC07)


def draw(pictures: dict[int, np.ndarray], found: list[Detections], test: BoxSource):
    """Some images with what is there and what was found above a score."""
    truth, shown = [], []
    for index, image in pictures.items():
        height, width = image.shape[:2]

        def whole(segmentations, height=height, width=width):
            if segmentations is None:
                return None
            decoded = [instance_masks.decode(one, height, width) for one in segmentations]
            return np.array(decoded, bool).reshape(-1, height, width)

        there, one = test.objects[index], found[index]
        truth.append((there.boxes, there.classes, None, whole(there.segmentations)))
        keep = one.scores >= _PICTURE_SCORE
        segmentations = one.segmentations and one.segmentations[: keep.sum()]
        shown.append((one.boxes[keep], one.classes[keep], one.scores[keep], whole(segmentations)))
    return draw_detections(list(pictures.values()), truth, shown, test.class_names)


def main() -> None:
    """Runs the command."""
    common_flags.run(_main)
