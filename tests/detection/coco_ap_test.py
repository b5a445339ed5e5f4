import contextlib
import dataclasses
import io
import json
import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from pycocotools import coco
from pycocotools import mask as masks
from pycocotools.cocoeval import COCOeval

from pixpro_keras.detection import instance_masks
from pixpro_keras.detection.box_source import COCO, BoxSource
from pixpro_keras.detection.coco_ap import coco_scores, coco_statistics
from pixpro_keras.detection.datasets import open_boxes
from pixpro_keras.detection.inference import Detections, to_coco_results
from pixpro_keras.detection.objects import make_objects
from tests.helpers.examples import write_image


def rectangle(x1, y1, x2, y2):
    mask = np.zeros((100, 100), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def source(boxes, is_crowd=None):
    segmentations = [instance_masks.to_rle(rectangle(*box)) for box in boxes]
    objects = make_objects(
        "image",
        (100, 100),
        boxes,
        [0] * len(boxes),
        is_crowd or [False] * len(boxes),
        segmentations=segmentations,
    )
    sizes = np.array([[100, 100]])
    return BoxSource("s", lambda i: i, str, sizes, [objects], ("thing",), ["i7"], [18], COCO)


def detections(boxes, scores, mask_boxes=None):
    segmentations = [instance_masks.to_rle(rectangle(*box)) for box in mask_boxes or boxes]
    return Detections(
        np.array(boxes, "f"), np.array(scores, "f"), np.zeros(len(boxes), "int32"), segmentations
    )


def random_polygon(rng):
    """A quadrangle whose area is far from its box's; its longer sides are of 16 to 190 pixels."""
    sides = rng.choice([20, 110, 190]) * rng.uniform(0.8, 1, 2)
    points = [[0, 0], [1, 0.1], [0.7, 0.5], [0.1, 1]] * sides
    return (points + rng.uniform((0, 0), (300, 200) - sides)).round(2)


def random_set(rng):
    """Content of COCO's file for three images of 300 x 200 pixels, with polygons and a crowd."""
    annotations = []
    for number in range(24):
        points = random_polygon(rng)
        polygon = [points.ravel().tolist()]
        row = {
            "id": 100 + number,
            "image_id": number % 3,
            "category_id": int(rng.choice([4, 9])),
            "bbox": [*points.min(0).tolist(), *(points.max(0) - points.min(0)).round(2).tolist()],
            "area": float(masks.area(instance_masks.to_rle(decode(polygon)))),
            "iscrowd": int(number >= 22),
            "segmentation": polygon,
        }
        if row["iscrowd"]:
            runs = np.flatnonzero(np.diff(decode(polygon).ravel("F"), prepend=0, append=0))
            edges = [0, *runs.tolist(), 60000]
            row["segmentation"] = {"size": [200, 300], "counts": np.diff(edges).tolist()}
        annotations.append(row)
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 200, "width": 300} for n in range(3)]
    categories = [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def decode(polygons):
    return instance_masks.decode(polygons, 200, 300)


def moved_objects(rng, source):
    """Detections near the true objects, some of them of the wrong class."""
    found = []
    for objects in source.objects:
        boxes, scores, classes, forms = [], [], [], []
        for segmentation, label in zip(objects.segmentations, objects.classes, strict=True):
            mask = instance_masks.decode(segmentation, 200, 300)
            mask = np.roll(mask, rng.integers(-4, 5, 2), (0, 1))
            forms.append(instance_masks.to_rle(mask))
            x, y, width, height = masks.toBbox(forms[-1])
            boxes.append((x, y, x + width, y + height))
            scores.append(rng.uniform())
            classes.append(label if rng.uniform() < 0.8 else 1 - label)
        found.append(
            Detections(np.array(boxes), np.array(scores), np.array(classes, np.int32), forms)
        )
    return found


def official_statistics(file, rows, kind):
    """Statistics of pycocotools, called as detectron2 does: masks without boxes."""
    if kind == "segm":
        rows = [{name: row[name] for name in row if name != "bbox"} for row in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(file)
        evaluation = COCOeval(truth, truth.loadRes(rows), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


class CocoApTest(tf.test.TestCase, parameterized.TestCase):
    def test_by_hand(self):
        boxes = [(0, 0, 20, 20), (40, 40, 80, 80)]
        scores = coco_scores([detections(boxes, [0.9, 0.8])], source(boxes))
        self.assertAllClose([scores[n] for n in ("AP", "AP50", "mask AP", "mask AP75")], [1.0] * 4)
        # One of two: at 51 of 101 recalls precision is 1. The box has an IoU of 0.8, up to which
        # there are six of the ten thresholds, or seven if IoU may equal it; the mask is exact.
        one = detections([(0, 0, 20, 16)], [0.9], [(0, 0, 20, 20)])
        scores = coco_scores([one], source(boxes))
        self.assertAllClose(scores["AP50"], 51 / 101)
        self.assertAllClose(scores["AP"], 0.7 * 51 / 101)
        self.assertAllClose(scores["mask AP"], 51 / 101)

    def test_scores_near_one_keep_their_order(self):
        boxes = [(0, 0, 20, 20)]
        scores = np.nextafter(np.float32(1), np.float32(0), dtype=np.float32), np.float32(1)
        one = detections([(60, 60, 80, 80), *boxes], scores)  # The second is right.
        self.assertAllClose(coco_scores([one], source(boxes))["AP"], 1.0)

    def test_crowds_are_ignored(self):
        boxes = [(0, 0, 20, 20), (40, 40, 80, 80)]
        one = detections([(45, 45, 55, 55), (0, 0, 20, 20)], [0.9, 0.8])
        self.assertAllClose(coco_scores([one], source(boxes, [False, True]))["AP"], 1.0)
        self.assertLess(coco_scores([one], source(boxes))["AP"], 0.5)

    def test_without_a_detection_ap_is_0_where_there_is_an_object(self):
        there = source([(0, 0, 20, 20), (0, 0, 100, 99), (0, 40, 40, 80)], [False, False, True])
        names = ("AP", "AP50", "AP75", "AP small", "AP large")  # The medium object is a crowd.
        expected = dict.fromkeys([*names, *(f"mask {name}" for name in names)], 0.0)
        self.assertEqual(coco_scores([detections(np.zeros((0, 4)), [])], there), expected)
        # It overlaps no object.
        wrong = detections([(90, 99, 92, 100)], [0.9])
        for kind in ("bbox", "segm"):
            self.assertEqual(
                coco_statistics([detections(np.zeros((0, 4)), [])], there, kind),
                coco_statistics([wrong], there, kind),
            )

    def test_objects_without_a_mask_do_not_count_for_masks(self):
        boxes = [(0, 0, 20, 20), (40, 40, 80, 80)]
        there = source(boxes)
        objects = there.objects[0]
        partly = dataclasses.replace(objects, segmentations=[objects.segmentations[0], []])
        there = dataclasses.replace(there, objects=[partly])
        for found in (boxes, boxes[:1]):  # the other one, found or not
            scores = coco_scores([detections(found, [0.9, 0.8][: len(found)])], there)
            self.assertAllClose(scores["mask AP"], 1.0)
        self.assertAllClose(scores["AP"], 51 / 101)

    @parameterized.parameters("bbox", "segm")
    def test_all_twelve_numbers_are_those_of_pycocotools(self, kind):
        rng = np.random.default_rng(0)
        root = pathlib.Path(self.create_tempdir().full_path)
        file = root / "annotations" / "instances_val.json"
        file.parent.mkdir()
        file.write_text(json.dumps(random_set(rng)))
        for number in range(3):
            write_image(root / "val" / f"{number}.jpg", 200, 300)
        there = open_boxes(f"coco:{root}", "val")
        found = moved_objects(rng, there)
        rows = to_coco_results(found, there.image_ids, there.class_ids)
        expected = official_statistics(file, rows, kind)
        self.assertAllInRange(expected, 0.05, 0.95)
        self.assertAllClose(coco_statistics(found, there, kind), expected, rtol=0, atol=1e-12)

    def test_rows_are_cocos(self):
        (row,) = to_coco_results([detections([(1, 2, 11, 32)], [0.5])], ["i7"], [18])
        segmentation = row.pop("segmentation")
        self.assertAllEqual(instance_masks.decode(segmentation, 100, 100), rectangle(1, 2, 11, 32))
        expected = {"image_id": "i7", "category_id": 18, "bbox": [1, 2, 10, 30], "score": 0.5}
        self.assertEqual(row, expected)


if __name__ == "__main__":
    tf.test.main()
