import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.anchors import grid_anchors
from pixpro_keras.detection.boxes import pairwise_iou
from pixpro_keras.detection.matching import match_boxes


def match_by_loop(iou, low, high, allow_low_quality):
    """detectron2's Matcher for one image."""
    matches, labels = [], []
    for column in iou.T:
        best = column.argmax()
        value = column[best]
        matches.append(best)
        labels.append(0 if value < low else -1 if value < high else 1)
    if allow_low_quality:
        for row in iou:
            for candidate, value in enumerate(row):
                if value == row.max() and value > 0:
                    labels[candidate] = 1
    return matches, labels


def float32_iou(boxes, others):
    """detectron2's pairwise_iou, each operation rounded to float32."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    intersection = np.prod(np.maximum(high - low, 0), axis=2)
    areas, other_areas = (np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (boxes, others))
    return intersection / (areas[:, None] + other_areas - intersection)


class MatchingTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((0.3, 0.7, True), (0.3, 0.7, False), (0.5, 0.5, False))
    def test_equals_a_loop(self, low, high, allow_low_quality):
        rng = np.random.default_rng(0)
        iou = rng.uniform(0, 0.8, (4, 3, 20)).round(1).astype("f")  # rounded: with ties
        num_valid = [3, 1, 2, 3]
        is_valid = np.arange(3) < np.array(num_valid)[:, None]
        matches, labels = match_boxes(iou, is_valid, low, high, allow_low_quality)
        for b, count in enumerate(num_valid):
            expected = match_by_loop(iou[b, :count], low, high, allow_low_quality)
            self.assertAllEqual(matches[b], expected[0])
            self.assertAllEqual(labels[b], expected[1])

    def test_without_boxes_all_are_negative(self):
        _, labels = match_boxes(np.ones((1, 2, 5), "f"), np.zeros((1, 2), bool), 0.3, 0.7, True)
        self.assertAllEqual(labels, np.zeros((1, 5)))

    def test_a_box_that_nothing_touches_has_no_match(self):
        iou = np.array([[[0.0, 0.0, 0.0], [0.2, 0.1, 0.0]]], "f")
        _, labels = match_boxes(iou, np.ones((1, 2), bool), 0.3, 0.7, True)
        self.assertAllEqual(labels, [[1, 0, 0]])

    def test_nearly_as_close_is_not_positive(self):
        iou = np.array([[[0.25, np.nextafter(0.25, 0, dtype="f"), 0.25, 0.2]]], "f")
        _, labels = match_boxes(iou, np.ones((1, 1), bool), 0.3, 0.7, True)
        self.assertAllEqual(labels, [[1, 0, 1, 0]])

    @parameterized.parameters(False, True)
    def test_small_objects_have_the_ties_of_float32(self, jit_compile):
        rng = np.random.default_rng(0)
        corners = rng.uniform(20, 280, (30, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(8, 16, (30, 2))], 1).astype("f")
        anchors = grid_anchors(20, 20, 16, (32, 64))
        expected = match_by_loop(float32_iou(boxes, anchors), 0.3, 0.7, True)

        @tf.function(jit_compile=jit_compile)
        def match(boxes):
            return match_boxes(pairwise_iou(boxes, anchors), np.ones((1, 30), bool), 0.3, 0.7, True)

        matches, labels = match(boxes[None])
        self.assertAllEqual(labels[0], expected[1])
        self.assertAllEqual(matches[0], expected[0])


if __name__ == "__main__":
    tf.test.main()
