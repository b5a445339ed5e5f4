r"""Object detection and instance segmentation on a pre-trained backbone, fine-tuned.

pixpro-detect --flagfile=bccd_c4.cfg \
    --dataset=voc:PATH --weights=runs/mine --workdir=runs/detect

Writes to `--workdir`: `detect.md` and `detect.json` (AP), `detections.json` (COCO's format),
`detect.png`, and the SavedModel `export/detector`: an image in, boxes out. With
`--test_every_iterations` the AP during the training goes to `metrics.jsonl`, with the losses. The
same command continues an interrupted run.
"""

import contextlib
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras import backbones, detection
from pixpro_keras.cli.options.detect_options import (
    DetectOptions,
    build_box_config,
    check_training,
    draw_labeled,
    open_data,
)
from pixpro_keras.cli.options.evaluation_options import (
    EvaluatedBackbone,
    read_backbone,
    trained_weights,
)
from pixpro_keras.cli.options.fine_tuning_options import refuse_image_size, slow_down_backbone
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.image_errors import image_errors
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.options.training_options import compile_task, resolve_lengths
from pixpro_keras.cli.shared import training_job
from pixpro_keras.cli.shared.comparison import run_each
from pixpro_keras.cli.shared.opened_run import open_run, run_training, write_at_end
from pixpro_keras.cli.shared.result_files import TRAINING_FILES, write_results
from pixpro_keras.detection import box_pipeline, instance_masks
from pixpro_keras.detection.box_source import (
    COCO,
    VOC07,
    VOC12,
    BoxSource,
    unscored_classes,
    without,
)
from pixpro_keras.detection.coco_ap import COCO_SCORES, coco_scores
from pixpro_keras.detection.detector import Detector, DetectorConfig
from pixpro_keras.detection.fpn_detector import FPNDetector
from pixpro_keras.detection.inference import Detections, detect_in_source, to_coco_results
from pixpro_keras.detection.serving import ServedDetector, save_detector
from pixpro_keras.detection.voc_ap import voc_scores
from pixpro_keras.evaluation.monitor import Monitor
from pixpro_keras.evaluation.precise_bn import apply_precise_bn, temporary_precise_bn
from pixpro_keras.training.run_config import RunResult
from pixpro_keras.training.workers import chief_first, is_multi_worker
from pixpro_keras.utils.bars import with_bar
from pixpro_keras.utils.files import write_atomically
from pixpro_keras.visualize.detection import draw_detections
from pixpro_keras.visualize.figures import save_figure
from pixpro_keras.weights import find_fpn, load_fpn

_NUM_PICTURES = 6
_PICTURE_SCORE = 0.5
_RULES = {COCO: "COCO", VOC07: "VOC 2007, 11 points", VOC12: "VOC since 2010, area"}

_FILES = {
    "detect.png": "test images with true and detected boxes",
    "detections.json": "all detections, in COCO's format",
    "export/detector/": "SavedModel of the detector",
}


def run(options: DetectOptions) -> RunResult:
    """Trains and tests a detector, on one backbone or on each of `--compare`."""
    check_training(options)
    return run_each(options, training_job.started(train_and_test), "detect")


def train_and_test(options: DetectOptions, job: training_job.StartedJob) -> RunResult:
    """Trains and tests a detector in the directory of a job that has been started."""
    box_config = build_box_config(options)
    with job.strategy.scope():  # Before the images, since reading annotations may take long.
        backbone, options = read_network(options)
    with chief_first(job.strategy):  # It prepares sets of TFDS.
        train, test = open_data(options)
    train, num_train = draw_labeled(options, train)
    options = resolve_lengths(options, train.num_examples)

    with job.strategy.scope():
        task = build_detector(options, backbone, len(train.class_names))
        compile_task(options, task)
        backbone_name = slow_down_backbone(options, task, backbone)
    opened = open_run(
        job,
        options,
        task,
        {
            "model": options.model,
            **trained_weights(options, backbone),
            "classes": list(train.class_names),
        },
        train,
        header={"task": f"detection, {options.model}", "backbone": backbone_name},
        data=options.dataset,
        num_images=num_train,
    )
    broken = box_pipeline.count_broken(train, options.max_broken_share)
    make_batches = functools.partial(
        box_pipeline.make_box_batches,
        train,
        box_config,
        global_batch_size=options.batch_size,
        replica_batch_size=job.replica_batch_size,
        preprocess=backbone.preprocess,
        broken=broken,
    )
    evaluation = DetectorEvaluation(options, job, backbone, task, test, make_batches)
    every = options.test_every_iterations
    with image_errors(train.name):
        result = run_training(
            opened,
            make_batches,
            broken=broken,
            measurements=[Monitor(evaluation.measure, every)] if every else [],
        )
    write_at_end(job, result, lambda: evaluation.finish(num_train))
    return result


def read_network(options: DetectOptions) -> tuple[EvaluatedBackbone, DetectOptions]:
    """Returns the backbone, and options that name it.

    Raises:
        FlagError: if it cannot be loaded, or takes images of one size only.
    """
    backbone, options = read_backbone(options)
    refuse_image_size(options, "--short_sides and --test_short_side")
    side = backbones.fixed_image_size(options.backbone)
    if side is not None:
        raise FlagError(
            f"--backbone={options.backbone}: takes images of {side} px only; a detector's are of many sizes"
        )
    return backbone, options


def build_detector(
    options: DetectOptions, backbone: EvaluatedBackbone, num_classes: int
) -> Detector:
    """Returns the detector, with the FPN of `--weights` where both have one."""
    with flag_errors(options, "num_rois"):
        config = DetectorConfig(
            num_classes,
            num_rois=options.num_rois,
            max_proposals=options.max_proposals,
            bn_momentum=options.bn_momentum,
        )
    with flag_errors(options, "model", "backbone"):
        task = detection.build(
            options.model, backbone.network, config, accumulate_steps=options.accumulate_steps
        )
    if isinstance(task, FPNDetector) and options.weights is not None:
        file = find_fpn(options.weights)
        if file is not None:
            with flag_errors(options, "weights"):
                missing = load_fpn(task.fpn, file)
            logging.info("FPN from %s, but for %s", file, ", ".join(missing) or "nothing")
    return task


def normalized_together(
    options: DetectOptions, replica_batch_size: int, strategy: tf.distribute.Strategy | None
) -> int:
    """Returns the number of images whose statistics batch norm takes together in training.

    The strategy is that of the devices whose statistics are taken together; None is one device.
    """
    size = replica_batch_size if strategy is None else options.batch_size
    return size // options.accumulate_steps


class DetectorEvaluation:
    """Evaluation of a detector on test images, during its training and after it.

    Args:
        options: resolved.
        job: devices and directory.
        backbone: backbone of the detector.
        task: the detector.
        test: test images, of which those that can be decoded count.
        make_batches: function that makes training batches, for precise batch norm; takes
            `replica_batch_size`.
    """

    def __init__(
        self,
        options: DetectOptions,
        job: training_job.StartedJob,
        backbone: EvaluatedBackbone,
        task: Detector,
        test: BoxSource,
        make_batches: Callable[..., tf.data.Dataset],
    ):
        self._options, self._job, self._backbone = options, job, backbone
        self._task, self._test, self._make_batches = task, test, make_batches
        self._detect = tf.function(task.detect)  # Traced once for all tests.
        # Of several machines, one measures batch norm on one device, with the parts of all replicas in turn.
        self._bn_strategy = None if is_multi_worker(job.strategy) else job.strategy

    def measure(self) -> dict[str, float]:
        """Returns the AP, with the statistics of precise batch norm for the time of the test."""
        norm: contextlib.AbstractContextManager = contextlib.nullcontext()
        if self._options.bn_batches:
            norm = temporary_precise_bn(self._task, self._bn_batches(), self._bn_strategy)
        with norm:
            found, _, seen = self._find_all()
            return score(found, seen)

    def finish(self, num_train: int) -> None:
        """Tests the trained detector; writes detections, pictures, the SavedModel and the scores.

        Args:
            num_train: number of training images.
        """
        options, workdir, backbone = self._options, self._job.workdir, self._backbone
        if options.bn_batches:
            logging.info("Measuring batch norm on %d training batches", options.bn_batches)
            apply_precise_bn(self._task, self._bn_batches(), self._bn_strategy)
        found, pictures, test = self._find_all()
        rows = to_coco_results(found, test.image_ids, test.class_ids)
        write_atomically(workdir / "detections.json", json.dumps(rows).encode())
        save_figure(draw(pictures, found, test), workdir / "detect.png")
        sides = options.test_short_side, options.max_side
        served = ServedDetector(self._task, backbone.preprocess, test.class_names, *sides)
        save_detector(served, workdir / "export" / "detector")
        facts = {
            "model": options.model,
            "backbone": backbone.label,
            "training images": num_train,
            "test images": test.num_examples,
            "AP by": _RULES[test.metric],
        }
        scores = unscored(options, test) | score(found, test)
        write_results(
            workdir, "detect", {**facts, **test.notes.counts, **scores}, TRAINING_FILES | _FILES
        )

    def _bn_batches(self) -> Iterator:
        """Returns the training batches of precise batch norm, in the sizes that are normalized together."""
        options = self._options
        size = normalized_together(options, self._job.replica_batch_size, self._bn_strategy)
        count = options.bn_batches * options.batch_size // size
        batches = itertools.islice(self._make_batches(replica_batch_size=size), count)
        return with_bar(batches, "batch norm", count, "batches")

    def _find_all(self) -> tuple[list[Detections], dict[int, np.ndarray], BoxSource]:
        """Finds the objects in all images that can be decoded.

        Returns:
            The detections in each of these images, a few of the images by their number, and these images.

        Raises:
            BrokenImagesError: if more than `--max_broken_share` of the images cannot be decoded.
        """
        options, test = self._options, self._test
        found: dict[int, Detections] = {}
        pictures = {}
        every = -(-test.num_examples // _NUM_PICTURES)
        broken = box_pipeline.count_broken(test, options.max_broken_share)
        with image_errors(test.name):
            detected = detect_in_source(
                self._detect,
                test,
                self._backbone.preprocess,
                options.test_short_side,
                options.max_side,
                options.num_canvases,
                broken,
            )
            for index, image, one in with_bar(detected, "detecting", test.num_examples):
                found[index] = one
                if index % every == 0:
                    pictures[index] = image
        order = sorted(found)
        pictures = {order.index(index): image for index, image in pictures.items()}
        return [found[index] for index in order], pictures, without(test, broken.names)


def score(found: list[Detections], test: BoxSource) -> dict[str, float]:
    """AP by the rules of the images' data set; nothing if no object counts."""
    if all(one.is_ignored.all() for one in test.objects):
        return {}
    if test.metric == COCO:
        return coco_scores(found, test)
    return voc_scores(found, test.objects, test.class_names, test.metric == VOC07)


def unscored(options: DetectOptions, test: BoxSource) -> dict[str, None]:
    """Scores that may be missing from a test: all, and those of classes without an object."""
    if test.metric == COCO:
        kinds = ("", "mask ") if detection.predicts_masks(options.model) else ("",)
        names = [f"{kind}{name}" for kind in kinds for name in COCO_SCORES]
        return dict.fromkeys(names + [f"AP {name}" for name in unscored_classes(test)])
    names = ["AP", "AP50", "AP75", *(f"AP50 {name}" for name in test.class_names)]
    return dict.fromkeys(names)


def draw(pictures: dict[int, np.ndarray], found: list[Detections], test: BoxSource):
    """Draws true objects and detections above a score on some images."""
    truth, shown = [], []
    for index, image in pictures.items():
        size = image.shape[:2]
        there, one = test.objects[index], found[index]
        truth.append((there.boxes, there.classes, None, _masks(there.segmentations, *size)))
        keep = one.scores >= _PICTURE_SCORE
        segmentations = one.segmentations and one.segmentations[: keep.sum()]
        shown.append(
            (one.boxes[keep], one.classes[keep], one.scores[keep], _masks(segmentations, *size))
        )
    return draw_detections(list(pictures.values()), truth, shown, test.class_names, _PICTURE_SCORE)


def _masks(segmentations: Sequence | None, height: int, width: int) -> np.ndarray | None:
    """Decodes the segmentations of an image to `(N, height, width)` bool; None if there are none."""
    if segmentations is None:
        return None
    decoded = [instance_masks.decode(one, height, width) for one in segmentations]
    return np.array(decoded, bool).reshape(-1, height, width)


def main() -> None:
    """Runs the command."""
    training_job.main(DetectOptions, run, __doc__ or "")
