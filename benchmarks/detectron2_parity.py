"""Losses, gradients and detections of our detectors, compared with detectron2's.

python benchmarks/detectron2_parity.py --detectron2=PATH --model=mask_rcnn_c4 --model=mask_rcnn_fpn

Both sides have the same weights, images and random numbers. `PATH` holds detectron2's source with its folders
`detectron2` and `configs`; its C++ part need not be compiled. Needs `pip install torch fvcore`. The detectors
have the layers of the authors' release: batch norm everywhere, one more batch norm behind the last stage of
C4, and a box head of four convolutions and one dense layer on FPN.
"""

import contextlib
import pathlib
import statistics
from collections.abc import Iterator
from unittest import mock

import pixpro_keras  # noqa: F401  # isort: skip
import keras
import numpy as np
import tensorflow as tf
import torch
from absl import app, flags
from detectron2_source import build, copy_weights, prepare, their_names, to_torch

from pixpro_keras import backbones, detection
from pixpro_keras.backbones.resnet import undo_zero_init_residual
from pixpro_keras.detection import box_pipeline, detector, instance_masks
from pixpro_keras.detection.detector import DetectorConfig
from pixpro_keras.detection.rpn import generate_proposals
from pixpro_keras.detection.sampling import image_noise
from pixpro_keras.evaluation.precise_bn import apply_precise_bn

FLAGS = flags.FLAGS
flags.DEFINE_string("detectron2", None, "Folder with detectron2's source.", required=True)
flags.DEFINE_multi_enum(
    "model", ["mask_rcnn_c4", "mask_rcnn_fpn"], detection.available(), "Models to compare."
)
flags.DEFINE_integer("height", 320, "Height of the images in pixels, a multiple of 32.", 32)
flags.DEFINE_integer("width", 416, "Width of the images in pixels, a multiple of 32.", 32)
flags.DEFINE_integer("num_classes", 5, "Classes of objects.", 1)
flags.DEFINE_integer("num_objects", 8, "Objects in each image.", 1)
flags.DEFINE_integer("num_rois", 512, "Proposals sampled per training image.", 4)

_BACKBONE = "resnet50_v1_5"
_NUM_IMAGES = 2
_MAX_BOXES = 20
# Our loss term -> detectron2's.
_LOSSES = {
    "rpn_objectness": "loss_rpn_cls",
    "rpn_box": "loss_rpn_loc",
    "box_class": "loss_cls",
    "box": "loss_box_reg",
    "mask": "loss_mask",
}


def make_batch(rng) -> tuple[dict, list[list[np.ndarray]]]:
    """Random images with quadrilateral objects, and the polygons of each image."""
    size = np.array([FLAGS.width, FLAGS.height], "float32")
    images = rng.normal(size=(_NUM_IMAGES, *size[::-1].astype(int), 3))
    boxes = np.zeros((_NUM_IMAGES, _MAX_BOXES, 4), "float32")
    classes = np.full((_NUM_IMAGES, _MAX_BOXES), -1, "int32")
    side = instance_masks.CROP_SIZE
    masks = np.zeros((_NUM_IMAGES, _MAX_BOXES, side, side), "uint8")
    polygons: list[list[np.ndarray]] = [[] for _ in range(_NUM_IMAGES)]
    for image in range(_NUM_IMAGES):
        for number in range(FLAGS.num_objects):
            sides = size * np.exp(rng.uniform(np.log(0.08), np.log(0.7), 2))
            points = np.array([[0, 0.2], [0.9, 0], [1, 0.8], [0.3, 1]]) * sides
            points += rng.uniform(0, 1, 2) * (size - sides)
            polygons[image].append(points)
            boxes[image, number] = [*points.min(0), *points.max(0)]
            classes[image, number] = rng.integers(FLAGS.num_classes)
            masks[image, number] = instance_masks.crop(
                [points.ravel().tolist()], boxes[image, number], FLAGS.height, FLAGS.width
            )
    batch = {
        box_pipeline.IMAGE: images.astype("float32"),
        box_pipeline.SIZE: np.broadcast_to(size[::-1], (_NUM_IMAGES, 2)),
        box_pipeline.BOXES: boxes,
        box_pipeline.CLASSES: classes,
        box_pipeline.MASKS: masks,
        box_pipeline.SEED: np.arange(2 * _NUM_IMAGES, dtype="int32").reshape(-1, 2),
    }
    return {name: tf.constant(value) for name, value in batch.items()}, polygons


def their_inputs(batch: dict, polygons: list) -> list[dict]:
    """Converts our batch to detectron2's input format."""
    from detectron2.structures import Boxes, Instances, PolygonMasks

    sides = {"height": FLAGS.height, "width": FLAGS.width}
    inputs = []
    for number, in_image in enumerate(polygons):
        image, boxes, classes = (
            torch.from_numpy(batch[key][number].numpy())
            for key in (box_pipeline.IMAGE, box_pipeline.BOXES, box_pipeline.CLASSES)
        )
        instances = Instances((FLAGS.height, FLAGS.width))
        instances.gt_boxes = Boxes(boxes[: len(in_image)])
        instances.gt_classes = classes[: len(in_image)].long()
        instances.gt_masks = PolygonMasks([[one.ravel()] for one in in_image])
        inputs.append({"image": image.permute(2, 0, 1), "instances": instances, **sides})
    return inputs


def share_samples(batch: dict, num_candidates: int) -> None:
    """Patches detectron2 to sample anchors and proposals with our random numbers.

    Args:
        batch: our batch.
        num_candidates: number of true boxes and proposals per image on our side, with padding.
    """
    from detectron2.modeling.proposal_generator import rpn
    from detectron2.modeling.roi_heads import roi_heads

    seeds = tf.split(batch[box_pipeline.SEED], _NUM_IMAGES)
    of_anchors, of_proposals = iter(seeds), iter(seeds)

    def pick(labels, noise, num_samples, positive_fraction, background):
        def largest(is_one, count):
            order = torch.where(is_one, torch.from_numpy(noise), -1.0).argsort(descending=True)
            return order[: min(int(is_one.sum()), count)]

        is_positive = (labels != -1) & (labels != background)
        positives = largest(is_positive, int(num_samples * positive_fraction))
        return positives, largest(labels == background, num_samples - len(positives))

    def pick_anchors(labels, *settings):
        noise = image_noise(next(of_anchors), len(labels), offset=0)[0].numpy()
        return pick(labels, noise, *settings)

    def pick_proposals(labels, *settings):
        noise = image_noise(next(of_proposals), num_candidates, offset=1)[0].numpy()
        # True boxes come last in detectron2 and first here.
        end = _MAX_BOXES + len(labels) - FLAGS.num_objects
        noise = np.r_[noise[_MAX_BOXES:end], noise[: FLAGS.num_objects]]
        return pick(labels, noise, *settings)

    rpn.subsample_labels, roi_heads.subsample_labels = pick_anchors, pick_proposals


@contextlib.contextmanager
def shared_proposals(generator, boxes: tf.Tensor, is_valid: tf.Tensor) -> Iterator[None]:
    """Compares detectron2's proposals with ours, prints the result and gives our proposals to its heads.

    Rounding may swap proposals with nearly equal scores, and other proposals would then be sampled.
    """
    from detectron2.structures import Boxes

    predict = generator.predict_proposals

    def compare_and_replace(*arguments):
        results = predict(*arguments)
        total, distances = 0, []
        for theirs, ours, is_used in zip(results, boxes.numpy(), is_valid.numpy(), strict=True):
            gaps = torch.from_numpy(ours[is_used])[None] - theirs.proposal_boxes.tensor[:, None]
            distances.append(gaps.abs().amax(dim=2).min(dim=1).values)
            total += int(is_used.sum())
            theirs._fields.clear()
            theirs.proposal_boxes = Boxes(torch.from_numpy(ours[is_used]))
            theirs.objectness_logits = torch.zeros(len(theirs))
        distance = torch.cat(distances)
        common = distance[distance < 1]
        print(f"Proposals of detectron2, ours, in both: {len(distance)}, {total}, {len(common)};")
        print(f"largest difference {common.max():.1e} px\n")
        return results

    with mock.patch.object(generator, "predict_proposals", compare_and_replace):
        yield


def compare_losses(task, variables: dict, model, batch: dict, inputs: list) -> None:
    """Compares the losses of a batch and the gradients of their sum, and prints the differences."""
    from detectron2.utils.events import EventStorage

    proposals = []

    def generate(*inputs):
        proposals.append(generate_proposals(*inputs))
        return proposals[-1]

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            found = task(batch, training=True)
            total = tf.add_n([found[name] for name in _LOSSES if name in found])
        return found, tape.gradient(total, task.trainable_variables), proposals[-1]

    with mock.patch.object(detector, "generate_proposals", generate):
        found, gradients, ours = run()
    model.train()
    with EventStorage(), shared_proposals(model.proposal_generator, *ours):
        losses = model(inputs)
    sum(losses.values()).backward()
    print("| | ours | detectron2 | relative difference |\n|---|---|---|---|")
    for name, their_name in _LOSSES.items():
        if name in found:
            loss, expected = float(found[name]), losses[their_name].item()
            difference = abs(loss - expected) / expected
            print(f"| {name} | {loss:.6f} | {expected:.6f} | {difference:.1e} |")
    by_path = {v.path: g for v, g in zip(task.trainable_variables, gradients, strict=True)}
    parameters = dict(model.named_parameters())
    gaps = {}
    for name, variable in variables.items():
        if name in parameters:
            one, two = to_torch(name, by_path[variable.path]), parameters[name].grad
            gaps[name] = float((one - two).norm() / two.norm())
    print("\nGradients, norm of the difference / norm, largest and median:")
    for part in ("predictor", "rpn_head", "roi_heads", "backbone"):
        of_part = [gaps.pop(name) for name in list(gaps) if part in name]
        print(f"{part}: {max(of_part):.1e}, {statistics.median(of_part):.1e}")


def compare_detections(found: dict, theirs: list) -> None:
    """Counts the detections found by both sides, and prints their largest differences."""
    gaps: dict[str, list[float]] = {"boxes, px": [], "scores": [], "masks": []}
    total = 0
    for image, instances in enumerate(theirs):
        for number, box in enumerate(instances.pred_boxes.tensor.numpy()):
            total += 1
            is_same = found["scores"][image] > 0
            is_same &= found["classes"][image] == int(instances.pred_classes[number])
            distances = np.abs(found["boxes"][image] - box).max(axis=1)
            nearest = int(np.where(is_same, distances, np.inf).argmin())
            if not is_same[nearest] or distances[nearest] > 1:
                continue
            gaps["boxes, px"].append(distances[nearest])
            score = float(instances.scores[number])
            gaps["scores"].append(abs(found["scores"][image, nearest] - score))
            if instances.has("pred_masks"):
                mask = instances.pred_masks[number, 0].numpy()
                gaps["masks"].append(np.abs(found["masks"][image, nearest] - mask).max())
    ours, both = int((found["scores"] > 0).sum()), len(gaps["scores"])
    print(f"\nDetections of detectron2, ours, in both: {total}, {ours}, {both}")
    print("Largest difference of", ", ".join(f"{k}: {max(v):.1e}" for k, v in gaps.items() if v))
    print(flush=True)


def compare(name: str) -> None:
    """Compares a model with detectron2's and prints the results."""
    keras.utils.set_random_seed(0)
    is_fpn, with_masks = name.endswith("fpn"), detection.predicts_masks(name)
    backbone = backbones.build(_BACKBONE)
    undo_zero_init_residual(backbone)
    config = DetectorConfig(FLAGS.num_classes, num_rois=FLAGS.num_rois)
    task = detection.build(name, backbone, config)
    # Larger kernels spread the predictions as in a trained detector.
    scaled = [(task.rpn.objectness, 4), (task.predictor.classes, 8), (task.predictor.boxes, 10)]
    if task.mask_head is not None:
        scaled.append((task.mask_head.masks, 20))
    for layer, factor in scaled:
        layer.kernel.assign(layer.kernel * factor)
    batch, polygons = make_batch(np.random.default_rng(0))
    if not with_masks:
        del batch[box_pipeline.MASKS]
    inputs = their_inputs(batch, polygons)
    source = pathlib.Path(FLAGS.detectron2)
    model = build(source, FLAGS.num_classes, FLAGS.num_rois, is_fpn, with_masks)
    variables = their_names(task, is_fpn, with_masks)
    assert len(variables) == len(task.weights) - 1  # All weights but the step counter.
    copy_weights(variables, model)
    print(f"\n{name}: {len(variables)} weights copied\n")
    share_samples(batch, _MAX_BOXES + task.train_num_proposals[1])
    compare_losses(task, variables, model, batch, inputs)

    # Moving statistics of this batch, so that the features keep their scale.
    apply_precise_bn(task, [batch])
    copy_weights(variables, model)
    model.eval()
    detect = tf.function(lambda: task.detect(batch[box_pipeline.IMAGE], batch[box_pipeline.SIZE]))
    found = {key: value.numpy() for key, value in detect().items()}
    with torch.no_grad():
        compare_detections(found, model.inference(inputs, do_postprocess=False))


def main(argv: list[str]) -> None:
    """Compares all models."""
    del argv
    prepare(pathlib.Path(FLAGS.detectron2))
    for name in FLAGS.model:
        compare(name)


if __name__ == "__main__":
    app.run(main)
