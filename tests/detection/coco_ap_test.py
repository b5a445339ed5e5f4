import dataclasses

import numpy as np
import tensorflow as tf

from pixpro_keras.detection import instance_masks
from pixpro_keras.detection.box_source import COCO, BoxSource, make_objects
from pixpro_keras.detection.coco_ap import coco_scores
from pixpro_keras.detection.inference import Detections, to_coco_results


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


class CocoApTest(tf.test.TestCase):
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

    def test_crowds_are_ignored(self):
        boxes = [(0, 0, 20, 20), (40, 40, 80, 80)]
        one = detections([(45, 45, 55, 55), (0, 0, 20, 20)], [0.9, 0.8])
        self.assertAllClose(coco_scores([one], source(boxes, [False, True]))["AP"], 1.0)
        self.assertLess(coco_scores([one], source(boxes))["AP"], 0.5)

    def test_nothing_is_found(self):
        nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, "int32"))
        self.assertAllClose(coco_scores([nothing], source([(0, 0, 20, 20)]))["AP"], 0.0)

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

    def test_rows_are_cocos(self):
        (row,) = to_coco_results([detections([(1, 2, 11, 32)], [0.5])], ["i7"], [18])
        segmentation = row.pop("segmentation")
        self.assertAllEqual(instance_masks.decode(segmentation, 100, 100), rectangle(1, 2, 11, 32))
        expected = {"image_id": "i7", "category_id": 18, "bbox": [1, 2, 10, 30], "score": 0.5}
        self.assertEqual(row, expected)


if __name__ == "__main__":
    tf.test.main()
