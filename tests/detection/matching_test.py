import numpy as np
import tensorflow as tf
from absl.testing import parameterized

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


if __name__ == "__main__":
    tf.test.main()
