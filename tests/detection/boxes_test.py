import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection import boxes


def random_boxes(rng, count, size=100.0):
    corner = rng.uniform(0, 0.7 * size, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 0.5 * size, (count, 2))], 1).astype("f")


def iou_of(one, two):
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    common = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, two)]
    return common / (sum(areas) - common)


class BoxesTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(0)

    def test_iou_equals_a_loop(self):
        one, two = random_boxes(self.rng, 7), random_boxes(self.rng, 5)
        expected = [[iou_of(a, b) for b in two] for a in one]
        self.assertAllClose(boxes.pairwise_iou(one, two), expected, atol=1e-6)
        self.assertAllClose(boxes.pairwise_iou(one[None], two[None])[0], expected, atol=1e-6)

    def test_iou_of_padding_is_zero(self):
        padding = np.zeros((1, 4), "f")
        self.assertAllEqual(boxes.pairwise_iou(padding, padding), [[0.0]])

    def test_coding_equals_a_loop(self):
        one, two = random_boxes(self.rng, 6), random_boxes(self.rng, 6)
        expected = []
        for box, anchor in zip(one, two, strict=True):
            width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
            shift_x = (box[0] + box[2] - anchor[0] - anchor[2]) / 2 / width
            shift_y = (box[1] + box[3] - anchor[1] - anchor[3]) / 2 / height
            growth = np.log((box[2] - box[0]) / width), np.log((box[3] - box[1]) / height)
            expected.append([10 * shift_x, 10 * shift_y, 5 * growth[0], 5 * growth[1]])
        self.assertAllClose(boxes.encode_boxes(one, two, (10, 10, 5, 5)), expected, atol=1e-4)

    @parameterized.parameters(((1.0, 1.0, 1.0, 1.0),), ((10.0, 10.0, 5.0, 5.0),))
    def test_round_trip(self, weights):
        one, two = random_boxes(self.rng, 50), random_boxes(self.rng, 50)
        deltas = boxes.encode_boxes(one, two, weights)
        self.assertAllClose(boxes.decode_boxes(deltas, two, weights), one, atol=1e-3)

    def test_padding_has_no_deltas_and_growth_is_limited(self):
        anchor = np.array([[0, 0, 16, 16]], "f")
        self.assertAllEqual(
            boxes.encode_boxes(np.zeros((1, 4), "f"), anchor, (1, 1, 1, 1)), [[0] * 4]
        )
        grown = boxes.decode_boxes(np.full((1, 4), 100.0, "f"), anchor, (1, 1, 1, 1)).numpy()[0]
        self.assertAllClose(grown[2] - grown[0], 1000.0, rtol=1e-4)

    def test_clip(self):
        clipped = boxes.clip_boxes(np.array([[[-5, 3, 90, 70]]], "f"), np.array([[60, 80]], "f"))
        self.assertAllEqual(clipped, [[[0, 3, 80, 60]]])


if __name__ == "__main__":
    tf.test.main()
